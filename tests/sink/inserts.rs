//! What the service's login could try by an INSERT of its own.

use sqlx::postgres::PgConnection;

use crate::common::{HOSTILE_SCHEMA, TestLedger, refused, run};
use crate::{Desk, append, outcome, signal, with};

/// The columns of a record in the order of its hash, and what an honest outcome has in them.
const HONEST: [(&str, &str); 19] = [
    ("id", "h.id + 1"),
    ("record_type", "'OUTCOME'::text"),
    ("signal_id", "'s-1'::text"),
    ("source_module", "'ema'::text"),
    ("signal_type", "NULL::text"),
    ("ticker", "'AAPL'::text"),
    ("direction", "'LONG'::text"),
    ("conviction", "82.5::numeric(7,4)"),
    ("confidence", "NULL::numeric(5,4)"),
    ("price", "NULL::numeric(28,10)"),
    ("\"timestamp\"", "h.clock"),
    ("payload_json_text", "'{}'::text"),
    ("acted_upon", "true"),
    ("execution_id", "NULL::text"),
    ("latency_ms", "0"),
    ("correlation_id", "NULL::uuid"),
    ("recorded_by", "'psql'::text"),
    ("received_at", "h.clock"),
    ("created_at", "greatest(h.created_at, h.clock)"),
];

/// An INSERT of rows that differ from an honest outcome in these columns, one behind the other;
/// each has its right link and hash.
fn insert(rows: &[&[(&str, &str)]]) -> String {
    let names = HONEST.map(|(name, _)| name).join(", ");
    let mut values = Vec::new();
    for (place, changes) in rows.iter().enumerate() {
        let value = |(name, honest): &(&str, &str)| {
            let change = changes.iter().find(|(changed, _)| changed == name);
            let value = change.map_or(*honest, |(_, value)| value);
            let value = if *name == "id" { format!("{value} + {place}") } else { value.to_owned() };
            format!("{value} AS {name}")
        };
        values.push(HONEST.iter().map(value).collect::<Vec<_>>().join(", "));
    }
    let hash = format!("public.signal_audit_ledger_hash(prev_hash, {names})");
    let mut sql = format!(
        "WITH h AS MATERIALIZED (SELECT * FROM public.ledger_begin_append(
             ARRAY['signal_audit_ledger'])),
         r0 AS (SELECT n.*, {hash} AS row_hash
                FROM (SELECT {}, h.row_hash::text AS prev_hash FROM h) AS n)",
        values[0]
    );
    for (place, row) in values.iter().enumerate().skip(1) {
        let next = format!(
            ", r{place} AS (SELECT n.*, {hash} AS row_hash FROM (
                 SELECT {row}, b.row_hash::text AS prev_hash FROM h, r{} AS b) AS n)",
            place - 1
        );
        sql.push_str(&next);
    }
    let all: Vec<_> = (0..rows.len()).map(|place| format!("SELECT * FROM r{place}")).collect();
    format!(
        "INSERT INTO public.signal_audit_ledger ({names}, prev_hash, row_hash) {sql} {}",
        all.join(" UNION ALL ")
    )
}

async fn code(app: &mut PgConnection, rows: &[&[(&str, &str)]]) -> String {
    refused(app, &insert(rows)).await
}

#[tokio::test]
async fn an_outcome_by_hand_names_its_signal_and_repeats_it() {
    let desk = Desk::open().await;
    desk.record(&signal(1)).await;
    let other = with(&signal(2), "source_module", "social");
    desk.record(&other).await;
    let mut app = desk.ledger.connect_app().await;
    for (column, value, expected) in [
        ("signal_id", "'s-2'::text", "AU008"),
        ("signal_id", "'S-1'::text", "AU008"),
        ("source_module", "'social'::text", "AU008"),
        ("ticker", "'MSFT'::text", "AU011"),
        ("ticker", "'aapl'::text", "AU011"),
        ("ticker", "''::text", "AU011"),
        ("direction", "'SHORT'::text", "AU011"),
        ("conviction", "82.5001::numeric(7,4)", "AU011"),
        ("conviction", "0::numeric(7,4)", "AU011"),
        ("record_type", "'SIGNAL'::text", "23505"),
        ("record_type", "'outcome'::text", "23514"),
        ("correlation_id", "gen_random_uuid()", "23503"),
        ("price", "'NaN'::numeric(28,10)", "23514"),
        ("payload_json_text", "'{'::text", "22P02"),
    ] {
        assert_eq!(code(&mut app, &[&[(column, value)]]).await, expected, "{column} {value}");
    }
    run(&mut app, &insert(&[&[]])).await;
    // The same again, at whatever time it comes: the content is what tells it apart.
    assert_eq!(code(&mut app, &[&[]]).await, "23505");
    let early = [("\"timestamp\"", "h.clock - interval '1 s'")];
    run(&mut app, &insert(&[&early])).await;
    drop(app);
    assert_eq!(desk.close().await, 4);
}

#[tokio::test]
async fn of_several_rows_each_outcome_follows_its_signal() {
    let ledger = TestLedger::new().await;
    let mut app = ledger.connect_app().await;
    let signal = [("record_type", "'SIGNAL'::text")].as_slice();
    let honest: &[(&str, &str)] = &[];
    let liar = [("ticker", "'MSFT'::text"), ("execution_id", "'x-9'::text")].as_slice();
    assert_eq!(code(&mut app, &[honest, signal]).await, "AU008");
    assert_eq!(code(&mut app, &[signal, liar]).await, "AU011");
    assert_eq!(code(&mut app, &[signal, honest, liar]).await, "AU011");
    run(&mut app, &insert(&[signal, honest])).await;
    // Under a role's settings and names of its own, too.
    run(&mut ledger.connect_superuser_unguarded().await, HOSTILE_SCHEMA).await;
    for settings in ["SET search_path = hostile, pg_catalog, public", "SET search_path = ''"] {
        run(&mut app, settings).await;
        assert_eq!(code(&mut app, &[liar]).await, "AU011", "{settings}");
    }
    drop(app);
    assert_eq!(ledger.finish().await, 2);
}

#[tokio::test]
async fn what_a_backslash_means_to_a_session_changes_nothing() {
    let desk = Desk::open().await;
    let name = desk.ledger.name();
    let set = format!("ALTER DATABASE {name} SET standard_conforming_strings = off");
    run(&mut desk.ledger.connect_superuser().await, &set).await;
    let mut app = desk.ledger.connect_app().await;
    let odd = with(&signal(1), "ticker", "A\\'; --\\x41");
    let first = append(&mut app, &odd.to_string()).await.unwrap();
    let again = append(&mut app, &odd.to_string()).await.unwrap();
    assert_eq!((again.0.as_str(), &again.1), ("duplicate", &first.1));
    let receipt = append(&mut app, &outcome(1).to_string()).await.unwrap().1;
    assert_eq!(append(&mut app, &outcome(1).to_string()).await.unwrap().1, receipt);
    // The service's own sessions have it, too.
    let by_service = desk.send(&odd).await;
    let payload = "jsonb spelt the payload anew";
    assert_eq!(by_service.status, 409, "{payload}: {by_service:?}");
    assert_eq!(desk.duplicate(&outcome(1)).await, receipt);
    desk.record(&with(&odd, "signal_id", "s-\\2")).await;
    desk.duplicate(&with(&odd, "signal_id", "s-\\2")).await;
    let of_it = with(&outcome(2), "signal_id", "s-\\2");
    let receipt = desk.record(&of_it).await;
    assert_eq!(desk.row(&receipt["id"]).await["ticker"], "A\\'; --\\x41");
    assert_eq!(desk.duplicate(&of_it).await, receipt);
    drop(app);
    assert_eq!(desk.close().await, 4);
}
