//! The tamper matrix: every column of every chain and of the log, changed behind the guards'
//! backs in a middle row. Both checks must name the chain and the row, and say what is wrong.

use audit_ledger::chains::IN_LEDGER;
use audit_ledger::integrity::report::Verdict;
use ledger_verifier::chain::{
    AI_DEBATES, ORDER_EVENTS, ORDER_EXECUTION, QUARANTINED_DELIVERIES, SECURITY_EVENTS,
    SIGNAL_AUDIT_LEDGER, SIGNALS,
};
use ledger_verifier::{Chain, ColumnType};
use sqlx::postgres::PgConnection;

use crate::checks::{Spelt, check, check_in_sql, check_one_in_sql, findings};
use crate::common::{TestLedger, attempt, read_back, run};
use crate::{CHAINS, ledger_with};

pub(crate) const ROWS: u32 = 5;
/// The row that is changed.
const MIDDLE: i64 = 3;

/// An unguarded ledger that can be put back as it was.
pub(crate) struct Unguarded {
    pub(crate) ledger: TestLedger,
    pub(crate) superuser: PgConnection,
    tables: Vec<(&'static str, String)>,
}

impl Unguarded {
    /// `ROWS` rows in every chain. `with_documents` makes plain columns of the generated ones.
    pub(crate) async fn new(with_documents: bool) -> Self {
        let ledger = ledger_with(ROWS).await;
        let mut superuser = ledger.disarmed().await;
        run(&mut superuser, "CREATE SCHEMA backup").await;
        let mut tables = vec![("ledger_log", "leaf_index, chain, id, row_hash".to_owned())];
        for chain in IN_LEDGER {
            let mut columns = audit_ledger::store::copy::copy_columns(chain);
            for column in chain.columns.iter().filter(|column| column.ty == ColumnType::Document) {
                if with_documents {
                    columns += ", ";
                    columns += column.name;
                    let drop = format!(
                        "ALTER TABLE public.{} ALTER COLUMN {} DROP EXPRESSION",
                        chain.name, column.name
                    );
                    run(&mut superuser, &drop).await;
                }
            }
            tables.push((chain.name, columns));
        }
        for (table, _) in &tables {
            let copy = format!("CREATE TABLE backup.{table} AS SELECT * FROM public.{table}");
            run(&mut superuser, &copy).await;
        }
        Self { ledger, superuser, tables }
    }

    /// Puts everything back as it was.
    pub(crate) async fn restore(&mut self) {
        for (table, columns) in &self.tables {
            let restore = format!(
                "TRUNCATE public.{table};
                 INSERT INTO public.{table} ({columns}) SELECT {columns} FROM backup.{table}"
            );
            run(&mut self.superuser, &restore).await;
        }
    }

    /// Tampers, runs all three checks, and puts everything back. The check in Rust must find
    /// exactly this; the one in SQL this in this chain (`None` for a valid chain).
    pub(crate) async fn assert_found(
        &mut self,
        sql: &str,
        mut expected: Vec<Spelt>,
        chain: &Chain,
        first_in_sql: Option<(i64, &str)>,
    ) {
        run(&mut self.superuser, sql).await;
        let report = check(&self.ledger).await;
        expected.sort();
        assert_eq!(findings(&report), expected, "{sql}");
        assert_eq!(report.verdict(), Verdict::Tampered, "{sql}");
        assert!(report.chains.iter().all(|chain| chain.error.is_none()), "{sql}");

        let line = check_one_in_sql(&mut self.superuser, chain.name).await;
        let first = line.first_bad_id.zip(line.finding.as_deref());
        assert_eq!(first, first_in_sql, "in SQL: {sql}");
        assert_eq!(line.valid == Some(false), first.is_some(), "in SQL: {sql}");
        // What does not show in the chain shows in the log.
        let lines = check_in_sql(&mut self.superuser).await;
        assert!(lines.iter().any(|line| line.valid == Some(false)), "in SQL: {sql}");

        let read = read_back::verify(&mut self.superuser).await;
        assert_ne!(read.problems, Vec::<String>::new(), "by the harness: {sql}");
        self.restore().await;
    }

    /// Everything is as it was, and is found to be.
    pub(crate) async fn finish(mut self) {
        assert_eq!(findings(&check(&self.ledger).await), []);
        for line in check_in_sql(&mut self.superuser).await {
            let chains = if line.checked_chain == "ledger_log" { CHAINS } else { 1 };
            let rows = i64::try_from(chains).unwrap() * i64::from(ROWS);
            assert_eq!((line.rows_checked, line.valid), (rows, Some(true)));
        }
        assert_eq!(self.ledger.finish().await, CHAINS * ROWS as usize);
    }
}

pub(crate) fn spelt(chain: &Chain, id: i64, kind: &'static str) -> Spelt {
    (chain.name.to_owned(), Some(id), kind)
}

/// What a check says of the rows that name a row of this chain once that is not there any more: in
/// [`ledger_with`] they have the same id.
pub(crate) fn orphans(chain: &Chain, id: i64) -> Vec<Spelt> {
    let naming: &[&Chain] = match chain.name {
        "signals" => &[&AI_DEBATES, &ORDER_EXECUTION],
        "order_execution" => &[&ORDER_EVENTS],
        _ => &[],
    };
    naming.iter().map(|chain| spelt(chain, id, "content")).collect()
}

/// What a column of this type is changed to; `@` is what it holds.
fn changes(ty: ColumnType) -> Vec<String> {
    let changes: &[&str] = match ty {
        ColumnType::BigInt | ColumnType::Integer => &["coalesce(@, 1) + 1", "NULL"],
        ColumnType::Boolean => &["NOT @", "NULL"],
        ColumnType::Numeric { scale, .. } => {
            let last_digit = format!("coalesce(@, 1) + 1e-{scale}");
            return [&last_digit, "coalesce(-@, -1)", "0", "'NaN'", "NULL"]
                .map(str::to_owned)
                .into();
        }
        ColumnType::Text { .. } => &[
            "coalesce(@, '') || ' '",
            "overlay(coalesce(@, 'x') PLACING 'É' FROM 1)",
            "''",
            "NULL",
        ],
        ColumnType::Uuid => &["gen_random_uuid()", "NULL"],
        ColumnType::Inet => &["'10.9.8.7'", "'::1'", "'10.0.0.0/8'", "NULL"],
        ColumnType::Timestamp => {
            &["@ + interval '1 us'", "'infinity'", "'-infinity'", "'1969-07-20 20:17:40Z'", "NULL"]
        }
        ColumnType::Document => &["coalesce(@, '1') || ' '", "'{}'", "'{\"price\": 1}'", "NULL"],
        ColumnType::Bytes => &["@ || '\\x00'", "''", "NULL"],
    };
    changes.iter().map(|change| (*change).to_owned()).collect()
}

async fn assert_every_column_is_covered(chain: &'static Chain) {
    let mut unguarded = Unguarded::new(false).await;
    for column in &chain.columns[1..] {
        let name = column.stored_name();
        let mut changed = 0;
        for change in changes(column.ty) {
            let value = change.replace('@', &name);
            let differs = format!(
                "SELECT FROM public.{} WHERE id = {MIDDLE} AND {name} IS DISTINCT FROM {value}",
                chain.name
            );
            if attempt(&mut unguarded.superuser, &differs).await.unwrap() == 0 {
                assert_eq!(change, "NULL", "{name} is NULL already");
                continue;
            }
            let update =
                format!("UPDATE public.{} SET {name} = {value} WHERE id = {MIDDLE}", chain.name);
            let mut expected = vec![spelt(chain, MIDDLE, "content")];
            let long_ago = change.starts_with("'-inf") || change.contains("1969");
            if column.name == "created_at" && long_ago {
                expected.push(spelt(chain, MIDDLE, "time_reversal"));
            }
            if column.name == "correlation_id" {
                match chain.name {
                    "signals" => expected.extend(orphans(chain, MIDDLE)),
                    // It names another signal, which is not there.
                    _ if change != "NULL" => expected.push(spelt(chain, MIDDLE, "content")),
                    _ => {}
                }
            }
            let in_sql = Some((MIDDLE, "content"));
            unguarded.assert_found(&update, expected, chain, in_sql).await;
            changed += 1;
        }
        assert!(changed > 0, "{name}");
    }
    unguarded.finish().await;
}

#[tokio::test]
async fn every_column_of_signals() {
    assert_every_column_is_covered(&SIGNALS).await;
}

#[tokio::test]
async fn every_column_of_ai_debates() {
    assert_every_column_is_covered(&AI_DEBATES).await;
}

#[tokio::test]
async fn every_column_of_order_execution() {
    assert_every_column_is_covered(&ORDER_EXECUTION).await;
}

#[tokio::test]
async fn every_column_of_order_events() {
    assert_every_column_is_covered(&ORDER_EVENTS).await;
}

#[tokio::test]
async fn every_column_of_signal_audit_ledger() {
    assert_every_column_is_covered(&SIGNAL_AUDIT_LEDGER).await;
}

#[tokio::test]
async fn every_column_of_security_events() {
    assert_every_column_is_covered(&SECURITY_EVENTS).await;
}

#[tokio::test]
async fn every_column_of_quarantined_deliveries() {
    assert_every_column_is_covered(&QUARANTINED_DELIVERIES).await;
}

#[tokio::test]
async fn every_prev_hash_and_row_hash() {
    let mut unguarded = Unguarded::new(false).await;
    for chain in IN_LEDGER {
        let update = |column: &str, value: &str| {
            format!("UPDATE public.{} SET {column} = {value} WHERE id = {MIDDLE}", chain.name)
        };
        let content = Some((MIDDLE, "content"));
        for value in ["repeat('0', 64)", "upper(prev_hash)", "''", "NULL", "row_hash"] {
            let expected = vec![spelt(chain, MIDDLE, "content"), spelt(chain, MIDDLE, "link")];
            unguarded.assert_found(&update("prev_hash", value), expected, chain, content).await;
        }
        for value in ["repeat('0', 64)", "upper(row_hash)", "''", "NULL", "prev_hash"] {
            let expected = vec![
                spelt(chain, MIDDLE, "content"),
                spelt(chain, MIDDLE, "log_mismatch"),
                spelt(chain, MIDDLE + 1, "link"),
            ];
            unguarded.assert_found(&update("row_hash", value), expected, chain, content).await;
        }
    }
    unguarded.finish().await;
}

#[tokio::test]
async fn every_id() {
    let mut unguarded = Unguarded::new(false).await;
    for chain in IN_LEDGER {
        let update =
            |id: &str| format!("UPDATE public.{} SET id = {id} WHERE id = {MIDDLE}", chain.name);
        let mut missing = vec![spelt(chain, MIDDLE, "log_mismatch"), spelt(chain, MIDDLE, "gap")];
        // Debates and orders name a signal by another column.
        if chain.name == "order_execution" {
            missing.extend(orphans(chain, MIDDLE));
        }

        let far = ["content", "log_mismatch", "time_reversal"];
        let expected = far.map(|kind| spelt(chain, 77, kind)).into_iter().chain(missing.clone());
        let expected = expected.chain([spelt(chain, i64::from(ROWS) + 1, "gap")]);
        let in_sql = Some((MIDDLE, "log_mismatch"));
        unguarded.assert_found(&update("77"), expected.collect(), chain, in_sql).await;

        let before = ["content", "gap", "log_mismatch"];
        let expected = before.map(|kind| spelt(chain, -3, kind)).into_iter().chain(missing.clone());
        let first = ["link", "time_reversal"].map(|kind| spelt(chain, 1, kind));
        let in_sql = Some((-3, "gap"));
        unguarded.assert_found(&update("-3"), expected.chain(first).collect(), chain, in_sql).await;

        let nameless = ["content", "link", "time_reversal"];
        let expected = nameless.map(|kind| (chain.name.to_owned(), None, kind));
        let in_sql = Some((MIDDLE, "log_mismatch"));
        let expected = expected.into_iter().chain(missing).collect();
        unguarded.assert_found(&update("NULL"), expected, chain, in_sql).await;
    }
    unguarded.finish().await;
}

#[tokio::test]
async fn every_document_beside_its_text() {
    let mut unguarded = Unguarded::new(true).await;
    for chain in IN_LEDGER {
        for column in chain.columns.iter().filter(|column| column.ty == ColumnType::Document) {
            let name = column.name;
            for value in [
                format!("{name} || '{{\"price\": 1}}'"),
                format!("{name} - 'price' - 'n'"),
                // Equal as a number, spelt otherwise.
                format!("replace(replace({name}::text, '0.125', '0.1250'), '3}}', '3.0}}')::jsonb"),
                "'null'".to_owned(),
                "NULL".to_owned(),
            ] {
                let update = format!(
                    "UPDATE public.{} SET {name} = {value} WHERE id = {MIDDLE}",
                    chain.name
                );
                let expected = vec![spelt(chain, MIDDLE, "document")];
                let in_sql = Some((MIDDLE, "document"));
                unguarded.assert_found(&update, expected, chain, in_sql).await;
            }
            // The text is no JSON any more, which is no reason for a check to break off.
            for text in ["'{'", "''", "'\"\\u0000\"'", "'1e999999'", "repeat('[', 100000)"] {
                // What is too deep to be compared is no verdict: the hash covers the text.
                let is_compared = !text.starts_with("repeat");
                let update = format!(
                    "UPDATE public.{} SET {name}_text = {text} WHERE id = {MIDDLE}",
                    chain.name
                );
                let mut expected = vec![spelt(chain, MIDDLE, "content")];
                expected.extend(is_compared.then(|| spelt(chain, MIDDLE, "document")));
                let in_sql = Some((MIDDLE, "content"));
                unguarded.assert_found(&update, expected, chain, in_sql).await;
            }
        }
    }
    unguarded.finish().await;
}

/// The third signal's leaf, by its place in [`ledger_with`].
fn leaf() -> i64 {
    (MIDDLE - 1) * i64::try_from(CHAINS).unwrap()
}

#[tokio::test]
async fn every_column_of_the_log() {
    let mut unguarded = Unguarded::new(false).await;
    let signals = &SIGNALS;
    let update =
        |set: &str| format!("UPDATE public.ledger_log SET {set} WHERE leaf_index = {}", leaf());
    let of_log = |id: i64, kind| ("ledger_log".to_owned(), Some(id), kind);
    let mismatch = spelt(signals, MIDDLE, "log_mismatch");
    let in_sql = Some((MIDDLE, "log_mismatch"));
    for value in ["repeat('0', 64)", "upper(row_hash)", "NULL", "''"] {
        let sql = update(&format!("row_hash = {value}"));
        unguarded.assert_found(&sql, vec![mismatch.clone()], signals, in_sql).await;
    }
    let unknown = vec![mismatch.clone(), of_log(MIDDLE, "log_mismatch")];
    for value in ["'nonsense'", "'Signals'", "''", "NULL"] {
        let sql = update(&format!("chain = {value}"));
        unguarded.assert_found(&sql, unknown.clone(), signals, in_sql).await;
    }
    // A chain's third row stands there twice, another one's not at all.
    let twice = spelt(&SECURITY_EVENTS, MIDDLE, "log_mismatch");
    let sql = update("chain = 'security_events'");
    let expected = vec![mismatch.clone(), twice.clone(), twice];
    unguarded.assert_found(&sql, expected.clone(), signals, in_sql).await;
    unguarded.assert_found(&sql, expected, &SECURITY_EVENTS, in_sql).await;
    // The row still has its entry; it is the log's own line that tells.
    let expected = vec![
        mismatch.clone(),
        mismatch.clone(),
        // Before the leaf that follows the gap, and before the one at the far end.
        of_log(MIDDLE, "gap"),
        of_log(MIDDLE, "gap"),
    ];
    unguarded.assert_found(&update("leaf_index = 999"), expected, signals, None).await;
    unguarded.finish().await;
}

#[tokio::test]
async fn positions_in_the_log_that_mislead_a_check_are_found_too() {
    let mut unguarded = Unguarded::new(false).await;
    let signals = &SIGNALS;
    for set in [
        "id = 77",
        "id = -1",
        "id = 4",
        "id = NULL",
        "leaf_index = -1",
        "leaf_index = NULL",
        "leaf_index = leaf_index + 1",
        "leaf_index = leaf_index - 1",
    ] {
        let sql = format!("UPDATE public.ledger_log SET {set} WHERE leaf_index = {}", leaf());
        run(&mut unguarded.superuser, &sql).await;
        let report = check(&unguarded.ledger).await;
        assert_eq!(report.verdict(), Verdict::Tampered, "{set}");
        let found = findings(&report);
        if set.starts_with("id") {
            let mismatch = spelt(signals, MIDDLE, "log_mismatch");
            assert!(found.contains(&mismatch), "{set}: {found:?}");
            let line = check_one_in_sql(&mut unguarded.superuser, signals.name).await;
            assert_eq!(line.valid, Some(false), "{set}");
        } else {
            assert!(found.iter().any(|(_, _, kind)| ["gap", "log_mismatch"].contains(kind)));
            let line = check_one_in_sql(&mut unguarded.superuser, "ledger_log").await;
            assert_eq!((line.valid, line.finding.as_deref()), (Some(false), Some("gap")), "{set}");
        }
        assert!(!read_back::verify(&mut unguarded.superuser).await.problems.is_empty(), "{set}");
        unguarded.restore().await;
    }
    unguarded.finish().await;
}

#[tokio::test]
async fn what_sql_prints_alike_is_another_value_to_a_check() {
    let mut unguarded = Unguarded::new(false).await;
    // host() does not print a mask, to_char() does not print the era.
    let before_christ = "(to_char(timezone('UTC', received_at), 'YYYY-MM-DD HH24:MI:SS.US')
                          || ' BC')::timestamp AT TIME ZONE 'UTC'";
    for (chain, set) in [
        (&SIGNALS, "source_ip = set_masklen(source_ip, 8)".to_owned()),
        (&QUARANTINED_DELIVERIES, "source_ip = set_masklen(source_ip, 31)".to_owned()),
        (&SIGNALS, format!("received_at = {before_christ}")),
        (&QUARANTINED_DELIVERIES, format!("received_at = {before_christ}")),
    ] {
        let update = format!("UPDATE public.{} SET {set} WHERE id = {MIDDLE}", chain.name);
        run(&mut unguarded.superuser, &update).await;
        let found = findings(&check(&unguarded.ledger).await);
        assert_eq!(found, [spelt(chain, MIDDLE, "content")], "{update}");
        let line = check_one_in_sql(&mut unguarded.superuser, chain.name).await;
        assert_eq!((line.first_bad_id, line.finding.as_deref()), (Some(MIDDLE), Some("content")));
        assert!(!read_back::verify(&mut unguarded.superuser).await.problems.is_empty(), "{update}");
        unguarded.restore().await;
    }
    unguarded.finish().await;
}
