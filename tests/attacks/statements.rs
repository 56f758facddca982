//! The attacks as SQL, made from the catalog.

use std::fmt::Write;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};

use crate::common::fetch;
use crate::{Action, On};

/// What takes rows in a lockdown, too.
const OPEN: [&str; 2] = ["security_events", "quarantined_deliveries"];
/// The tables without guards: three that stay empty, and sqlx's own.
const BARE: [&str; 4] =
    ["_sqlx_migrations", "ledger_check_lock", "ledger_checkpoint_lock", "ledger_lock"];
/// The tables that say what was signed.
const SIGNED: [&str; 2] = ["checkpoints", "incarnations"];
/// Columns that an attacker would change, by preference: any text does for most.
const CHANGED: [&str; 12] = [
    "recorded_by",
    "actor",
    "source",
    "name",
    "row_hash",
    "finding_id",
    "code",
    "chain",
    "origin",
    "note",
    "anchor",
    "root",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Chain,
    Log,
    Signed,
    Records,
    Bare,
}

/// A table of the ledger, as the catalog has it.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// Whether another table names its rows.
    pub(crate) is_referenced: bool,
    /// The text column to change.
    changed: String,
    /// Of a chain: the columns that are hashed, and what a new row has in them.
    row: Vec<(String, String)>,
}

impl Table {
    pub(crate) fn is_on(&self, on: On) -> bool {
        let is_open = OPEN.contains(&self.name.as_str());
        match on {
            On::Chains => self.kind == Kind::Chain,
            On::Business => self.kind == Kind::Chain && !is_open,
            On::Open => is_open,
            On::Log => self.kind == Kind::Log,
            On::Signed => self.kind == Kind::Signed,
            On::Records => self.kind == Kind::Records,
            On::Guarded => self.kind != Kind::Bare,
            On::Every => true,
            On::Once => self.name == "signals",
        }
    }

    /// A new row of a chain that differs in these columns from the one that comes next, as columns
    /// and a SELECT. Its hash is right unless `row_hash` is among them.
    pub(crate) fn new_row(&self, changes: &[(&str, &str)]) -> (String, String) {
        let value_of = |name: &str, value: &str| {
            let change = changes.iter().find(|change| change.0 == name);
            change.map_or_else(|| value.to_owned(), |change| change.1.to_owned())
        };
        let (mut columns, mut values, mut arguments) =
            (String::new(), String::new(), "n.prev_hash".to_owned());
        for (name, value) in &self.row {
            write!(columns, "{name}, ").unwrap();
            write!(values, "{} AS {name}, ", value_of(name, value)).unwrap();
            write!(arguments, ", n.{name}").unwrap();
        }
        let table = &self.name;
        let row_hash = value_of("row_hash", &format!("public.{table}_hash({arguments})"));
        let prev_hash = value_of("prev_hash", "h.row_hash::text");
        let select = format!(
            "SELECT n.*, {row_hash} AS row_hash FROM (SELECT {values}{prev_hash} AS prev_hash
             FROM (SELECT * FROM public.{table} ORDER BY id DESC LIMIT 1) AS h) AS n"
        );
        (format!("{columns}prev_hash, row_hash"), select)
    }

    fn insert(&self, changes: &[(&str, &str)]) -> String {
        let (columns, select) = self.new_row(changes);
        format!("INSERT INTO public.{} ({columns}) {select}", self.name)
    }

    /// Changes one row; with its hash, for who wants it to pass the constraint.
    fn update(&self, with_hash: bool) -> String {
        let (table, column) = (&self.name, &self.changed);
        let value = match column.as_str() {
            "row_hash" | "finding_id" => "repeat('e', 64)",
            "code" => "'AUD-002'",
            "root" => "sha256('')",
            _ => "'forged'",
        };
        let mut set = format!("{column} = {value}");
        if with_hash && self.kind == Kind::Chain {
            let mut arguments = "prev_hash".to_owned();
            for (name, _) in &self.row {
                write!(arguments, ", {}", if name == column { value } else { name }).unwrap();
            }
            write!(set, ", row_hash = public.{table}_hash({arguments})").unwrap();
        }
        format!(
            "UPDATE public.{table} SET {set} WHERE ctid = (SELECT ctid FROM public.{table} LIMIT 1)"
        )
    }

    /// Enters the latest row into the log, as the append trigger would.
    fn log_entry(&self) -> String {
        format!(
            "INSERT INTO public.ledger_log
             SELECT (SELECT max(leaf_index) + 1 FROM public.ledger_log), '{0}', id, row_hash
             FROM public.{0} ORDER BY id DESC LIMIT 1",
            self.name
        )
    }
}

/// Every table of the ledger. What has no guards must be known here by its name.
pub(crate) async fn tables(connection: &mut PgConnection) -> Vec<Table> {
    let rows = sqlx::query(AssertSqlSafe(
        "SELECT c.relname::text AS name, c.relname::text = ANY (public.ledger_chains()) AS is_chain,
                EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = c.oid
                    AND t.tgfoid = 'public.ledger_refuse_change'::regproc) AS is_guarded,
                EXISTS (SELECT FROM pg_constraint AS o WHERE o.confrelid = c.oid
                    AND o.conrelid <> c.oid AND o.contype = 'f') AS is_referenced,
                ARRAY(SELECT a.attname::text FROM pg_attribute AS a
                      WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns
         FROM pg_class AS c
         WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace ORDER BY 1",
    ));
    let mut tables = Vec::new();
    for row in rows.fetch_all(&mut *connection).await.unwrap() {
        let name: String = row.get("name");
        let columns: Vec<String> = row.get("columns");
        let kind = match (row.get("is_chain"), row.get("is_guarded")) {
            _ if name == "ledger_log" => Kind::Log,
            (_, true) if SIGNED.contains(&name.as_str()) => Kind::Signed,
            (true, _) => Kind::Chain,
            (false, true) => Kind::Records,
            (false, false) => Kind::Bare,
        };
        assert_eq!(kind == Kind::Bare, BARE.contains(&name.as_str()), "the guards of {name}");
        let changed = CHANGED.into_iter().find(|changed| columns.iter().any(|c| c == changed));
        tables.push(Table {
            kind,
            is_referenced: row.get("is_referenced"),
            changed: changed.unwrap_or_default().to_owned(),
            row: if kind == Kind::Chain { next_row(connection, &name).await } else { Vec::new() },
            name,
        });
    }
    tables
}

/// The columns that a chain's hash is made of, and what the next row has in them: what the head has,
/// but for what must be new.
async fn next_row(connection: &mut PgConnection, chain: &str) -> Vec<(String, String)> {
    let columns = sqlx::query(AssertSqlSafe(format!(
        "SELECT a.attname::text AS name, a.atttypid::regtype::text AS type,
                -- Where an expression is part of the key, a new first column makes a new key.
                EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = a.attrelid AND i.indisunique
                    AND (i.indkey[0] = a.attnum
                         OR i.indexprs IS NULL AND a.attnum = ANY (i.indkey))) AS is_unique
         FROM pg_proc AS p
         CROSS JOIN unnest(p.proargnames) WITH ORDINALITY AS argument (name, place)
         JOIN pg_attribute AS a ON a.attname = argument.name
             AND a.attrelid = 'public.{chain}'::regclass
         WHERE p.oid = 'public.{chain}_hash'::regproc AND a.attname <> 'prev_hash'
         ORDER BY argument.place"
    )));
    let columns = columns.fetch_all(connection).await.unwrap();
    let value = |name: &str, kind: &str, is_unique: bool| match (name, kind, is_unique) {
        ("id", ..) => "h.id + 1".to_owned(),
        ("created_at", ..) => "greatest(clock_timestamp(), h.created_at)".to_owned(),
        (_, "uuid", true) => "gen_random_uuid()".to_owned(),
        (_, "character varying", true) => "gen_random_uuid()::text".to_owned(),
        (_, "bytea", _) => "uuid_send(gen_random_uuid())".to_owned(),
        _ => format!("h.{name}"),
    };
    let of = |row: &sqlx::postgres::PgRow| {
        let name: String = row.get("name");
        let value = value(&name, row.get("type"), row.get("is_unique"));
        (name, value)
    };
    columns.iter().map(of).collect()
}

/// The columns in which an attacker's row differs from an honest one.
pub(crate) fn forged(action: Action) -> &'static [(&'static str, &'static str)] {
    match action {
        Action::InsertWithId => &[("id", "h.id + 2")],
        Action::InsertWithTime => &[("created_at", "'2001-02-03 04:05:06Z'::timestamptz")],
        Action::InsertWithHash => &[("row_hash", "repeat('0', 64)")],
        Action::InsertWithPrevHash | Action::Copy => &[("prev_hash", "repeat('0', 64)")],
        _ => &[],
    }
}

/// The attack on one table. `is_covered` asks for all that a careful superuser does. Of
/// [`Action::Copy`] it is what follows the COPY.
pub(crate) fn statement(action: Action, table: &Table, is_covered: bool) -> String {
    let name = &table.name;
    let key = if table.kind == Kind::Log { "leaf_index" } else { "id" };
    let logged = |insert: String| {
        if is_covered { format!("{insert}; {}", table.log_entry()) } else { insert }
    };
    match action {
        Action::Update => table.update(is_covered),
        Action::UpdateOfNoRow => {
            format!("UPDATE public.{name} SET {} = 'forged' WHERE false", table.changed)
        }
        Action::UpdateOfKey => format!("UPDATE public.{name} SET id = id"),
        Action::DeleteFirst => format!("DELETE FROM public.{name} WHERE {key} = 1"),
        Action::DeleteLast => {
            format!(
                "DELETE FROM public.{name} WHERE {key} = (SELECT max({key}) FROM public.{name})"
            )
        }
        Action::DeleteAll => format!("DELETE FROM public.{name}"),
        Action::DeleteOfNoRow => format!("DELETE FROM public.{name} WHERE false"),
        Action::Truncate => format!("TRUNCATE public.{name}"),
        Action::TruncateCascade => format!("TRUNCATE public.{name} CASCADE"),
        Action::Drop => format!("DROP TABLE public.{name} CASCADE"),
        Action::Alter => format!("ALTER TABLE public.{name} ADD COLUMN forged text"),
        Action::DisableTriggers => format!("ALTER TABLE public.{name} DISABLE TRIGGER USER"),
        Action::ReplicaRole => {
            format!("SET session_replication_role = replica; DELETE FROM public.{name}")
        }
        Action::Grant => format!("GRANT UPDATE, DELETE ON public.{name} TO app_trading"),
        Action::Insert
        | Action::InsertWithId
        | Action::InsertWithTime
        | Action::InsertWithHash
        | Action::InsertWithPrevHash
        | Action::InsertWhileLocked => logged(table.insert(forged(action))),
        Action::Copy => logged(String::new()),
        _ => once(action).to_owned(),
    }
}

/// An attack that is not about one table or another.
fn once(action: Action) -> &'static str {
    match action {
        Action::InsertIntoLog => {
            "INSERT INTO public.ledger_log SELECT count(*), 'signals', 1000, repeat('0', 64)
             FROM public.ledger_log"
        }
        // The latest row of all, with its entry: what is left adds up.
        Action::RemoveLatest => {
            "DELETE FROM public.security_events
             WHERE id = (SELECT max(id) FROM public.security_events);
             DELETE FROM public.ledger_log
             WHERE leaf_index = (SELECT max(leaf_index) FROM public.ledger_log)"
        }
        Action::ReplaceFunction => {
            "CREATE OR REPLACE FUNCTION public.ledger_refuse_change() RETURNS trigger
             LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"
        }
        Action::DisableEventTrigger => "ALTER EVENT TRIGGER ledger_guard_ddl DISABLE",
        Action::OpenWindow => "SELECT ledger_guard.begin_migration()",
        Action::ForgeManifest => {
            "UPDATE ledger_guard.guard_manifest SET definition = 'forged' WHERE kind = 'trigger'"
        }
        Action::ForgeLift => {
            "INSERT INTO public.lockdowns (id, lockdown_id, action, actor, key_id, request_id, reason,
                                           findings, security_event_id)
             SELECT max(id) + 1, 1, 'LIFTED', 'alice', repeat('a', 16), NULL, 'forged', '[]', 1
             FROM public.lockdowns"
        }
        Action::ForgeAcknowledgement => {
            "INSERT INTO public.acknowledged_findings (finding_id, lifted_by)
             SELECT repeat('a', 64), max(id) FROM public.lockdowns"
        }
        Action::ForgeRefusals => {
            "INSERT INTO public.recorded_refusals (code, total, security_event_id)
             VALUES ('AUD-002', 1000000, 1)"
        }
        Action::ForgeKey => {
            "INSERT INTO public.api_keys (key_id, name, scopes, secret_sha256)
             VALUES (repeat('a', 16), 'mallory', '{admin}', repeat('a', 64))"
        }
        Action::DeleteMigrations => "DELETE FROM public._sqlx_migrations",
        other => unreachable!("{other:?} is about tables"),
    }
}

/// The code with which the guards refuse to change a table.
pub(crate) fn code_of(action: Action, table: &Table) -> &'static str {
    let is_update = matches!(action, Action::Update | Action::UpdateOfNoRow | Action::UpdateOfKey);
    let is_truncate = matches!(action, Action::Truncate | Action::TruncateCascade);
    match table.name.as_str() {
        // PostgreSQL refuses by itself to leave rows without those that they name.
        _ if action == Action::Truncate && table.is_referenced => "0A000",
        _ if is_truncate || action == Action::RemoveLatest => "AU010",
        "signals" if is_update => "AU002",
        "signals" => "AU003",
        "ai_debates" if is_update => "AU004",
        "ai_debates" => "AU005",
        "order_execution" | "order_events" if is_update => "AU006",
        "order_execution" | "order_events" => "AU007",
        _ => "AU010",
    }
}

/// Every row of every table as text, in a fixed order.
pub(crate) async fn contents(connection: &mut PgConnection, tables: &[Table]) -> Vec<Vec<String>> {
    let mut contents = Vec::new();
    for table in tables {
        let rows = format!(
            "SELECT coalesce(array_agg(t::text ORDER BY t::text), '{{}}') FROM public.{} AS t",
            table.name
        );
        contents.push(fetch(connection, &rows).await);
    }
    contents
}
