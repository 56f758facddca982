//! The tables of the seeded ledger without triggers and without most indexes, and back.

use sqlx::{AssertSqlSafe, PgConnection, Row};

use crate::Error;

/// What the server may take to sort for an index.
const SORT_MEMORY: &str = "512MB";

/// Takes triggers and indexes away, within a transaction of a superuser; returns the statements that
/// make everything as it was.
pub(crate) async fn lay_bare(connection: &mut PgConnection) -> Result<Vec<String>, Error> {
    let enable = disable_triggers(connection).await?;
    // The guard that would refuse that is off by now, and on again last.
    let mut restore = drop_indexes(connection).await?;
    restore.extend(enable);
    Ok(restore)
}

/// Switches off the triggers of both tables, and the one that would refuse that; returns what
/// switches each on as it was, that one last.
async fn disable_triggers(connection: &mut PgConnection) -> Result<Vec<String>, Error> {
    let enabled = |state: &str| match state {
        "A" => "ENABLE ALWAYS",
        "R" => "ENABLE REPLICA",
        "O" => "ENABLE",
        _ => "DISABLE",
    };
    let guard: String = sqlx::query_scalar(
        "SELECT evtenabled::text FROM pg_event_trigger WHERE evtname = 'ledger_guard_ddl'",
    )
    .fetch_one(&mut *connection)
    .await?;
    let event_trigger = "ALTER EVENT TRIGGER ledger_guard_ddl";
    let mut off = vec![format!("{event_trigger} DISABLE")];
    let mut on = Vec::new();
    let triggers = sqlx::query(
        "SELECT tgrelid::regclass::text AS of_table, quote_ident(tgname) AS name,
                tgenabled::text AS state
         FROM pg_trigger
         WHERE NOT tgisinternal AND tgrelid IN (
             'public.signal_audit_ledger'::regclass, 'public.ledger_log'::regclass)",
    )
    .fetch_all(&mut *connection)
    .await?;
    for trigger in triggers {
        let (table, name): (String, String) =
            (trigger.try_get("of_table")?, trigger.try_get("name")?);
        let state: String = trigger.try_get("state")?;
        off.push(format!("ALTER TABLE {table} DISABLE TRIGGER {name}"));
        on.push(format!("ALTER TABLE {table} {} TRIGGER {name}", enabled(&state)));
    }
    on.push(format!("{event_trigger} {}", enabled(&guard)));
    for statement in off {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *connection).await?;
    }
    Ok(on)
}

/// Drops the indexes of the rows but the primary key's, which grows at its end only; returns what
/// makes each again. Rows come in no order of the others: to grow those row by row takes more reading
/// and writing the larger they are, to sort everything once does not.
async fn drop_indexes(connection: &mut PgConnection) -> Result<Vec<String>, Error> {
    let indexes = sqlx::query(
        "SELECT i.indexrelid::regclass::text AS name, pg_get_indexdef(i.indexrelid) AS definition,
                quote_literal(obj_description(i.indexrelid, 'pg_class')) AS comment
         FROM pg_index AS i
         WHERE i.indrelid = 'public.signal_audit_ledger'::regclass
           AND NOT EXISTS (SELECT FROM pg_constraint AS c WHERE c.conindid = i.indexrelid)",
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut make = vec![format!("SET LOCAL maintenance_work_mem = '{SORT_MEMORY}'")];
    for index in indexes {
        let (name, definition): (String, String) =
            (index.try_get("name")?, index.try_get("definition")?);
        sqlx::raw_sql(AssertSqlSafe(format!("DROP INDEX {name}")))
            .execute(&mut *connection)
            .await?;
        make.push(definition);
        if let Some(comment) = index.try_get::<Option<String>, _>("comment")? {
            make.push(format!("COMMENT ON INDEX {name} IS {comment}"));
        }
    }
    Ok(make)
}
