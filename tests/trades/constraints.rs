//! The rules stand twice: in Rust, so that a sender is told in its own words, and in PostgreSQL,
//! so that they hold for everybody. Both must name the same constraint for the same row.

use std::collections::BTreeSet;

use audit_ledger::chains::constraints::{CONSTRAINTS, Kind, by_name};
use audit_ledger::chains::{ClientChain, Identity, ai_debates, order_events, order_execution};
use audit_ledger::clock::Clock;
use audit_ledger::records::read_record;
use audit_ledger::store::copy::copy_columns;
use ledger_verifier::chain::SIGNAL_AUDIT_LEDGER;
use ledger_verifier::{Chain, ColumnType, Value};
use serde_json::{Value as Json, json};
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use crate::common::builders::{order, signal};
use crate::common::{TestLedger, attempt, fetch, run, soon};

/// A value as a SQL literal of its column's type.
fn literal(ty: ColumnType, value: &Value<'_>) -> String {
    let (text, cast) = match (ty, value) {
        (ColumnType::BigInt, Value::Null) => return "NULL::bigint".to_owned(),
        (ColumnType::Numeric { .. }, Value::Null) => return "NULL::numeric".to_owned(),
        (ColumnType::Uuid, Value::Null) => return "NULL::uuid".to_owned(),
        (_, Value::Null) => return "NULL::text".to_owned(),
        (ColumnType::Integer, Value::Integer(number)) => (number.to_string(), "integer"),
        (_, Value::Integer(number)) => (number.to_string(), "bigint"),
        (_, Value::Boolean(flag)) => (flag.to_string(), "boolean"),
        (ColumnType::Numeric { precision, scale }, &Value::Decimal(units)) => {
            let text = ledger_verifier::decimal::to_string(units, scale);
            return format!("'{text}'::numeric({precision},{scale})");
        }
        (_, Value::Uuid(bytes)) => (Uuid::from_bytes(*bytes).to_string(), "uuid"),
        (_, Value::Text(text) | Value::Document(text)) => (text.replace('\'', "''"), "text"),
        (_, Value::Timestamp(micros)) => {
            let time = chrono::DateTime::from_timestamp_micros(*micros).unwrap();
            (time.to_rfc3339(), "timestamptz")
        }
        _ => unreachable!("no column of these chains"),
    };
    format!("'{text}'::{cast}")
}

/// An INSERT by hand, right in everything but what the values break.
fn insert(chain: &Chain, values: &[Value<'_>]) -> String {
    let columns: Vec<_> = chain.columns.iter().map(ledger_verifier::Column::stored_name).collect();
    let last = columns.len() - 1;
    let chosen: Vec<_> = (1..last)
        .map(|at| format!("{} AS {}", literal(chain.columns[at].ty, &values[at]), columns[at]))
        .collect();
    format!(
        "INSERT INTO public.{name} ({all})
         SELECT r.*, public.{name}_hash(prev_hash, {hashed})
         FROM (SELECT h.id + 1 AS id, {chosen}, greatest(h.created_at, h.clock) AS created_at,
                      h.row_hash::text AS prev_hash
               FROM public.ledger_begin_append(ARRAY['{name}']) AS h) AS r",
        name = chain.name,
        all = copy_columns(chain),
        hashed = columns.join(", "),
        chosen = chosen.join(", "),
    )
}

/// The constraint that PostgreSQL refuses a row by; nothing stays.
async fn refused_by(
    connection: &mut PgConnection,
    chain: &Chain,
    values: &[Value<'_>],
) -> Option<String> {
    run(connection, "BEGIN").await;
    let answer = attempt(connection, &insert(chain, values)).await;
    run(connection, "ROLLBACK").await;
    let error = answer.err()?;
    let database = error.as_database_error().unwrap_or_else(|| panic!("{error}"));
    if database.code().unwrap() == "AU008" {
        // A trigger's, since no foreign key can say it.
        return Some(OUTCOME_OF_SIGNAL.to_owned());
    }
    Some(database.constraint().unwrap_or_else(|| panic!("{error}")).to_owned())
}

/// What Rust names: a rule between the row's own members, else the row that is not there.
fn named_by_rust(
    to: &ClientChain,
    values: &[Value<'static>],
    known: &Value<'_>,
) -> Option<&'static str> {
    match to.new_row(values.to_vec(), Identity::Unique) {
        Err(constraint) => Some(constraint),
        Ok(row) => {
            let reference = row.reference?;
            (row.values[1] != *known).then_some(reference.constraint)
        }
    }
}

/// Every row that can be made of these choices for its columns.
fn rows(choices: &[Vec<Value<'static>>]) -> Vec<Vec<Value<'static>>> {
    choices.iter().fold(vec![vec![Value::Null]], |rows, choices| {
        let extend = |row: Vec<Value<'static>>| {
            choices
                .iter()
                .map(move |choice| [row.as_slice(), std::slice::from_ref(choice)].concat())
        };
        rows.into_iter().flat_map(extend).collect()
    })
}

fn text(text: &str) -> Value<'static> {
    Value::Text(text.to_owned().into())
}

fn texts(texts: &[&str]) -> Vec<Value<'static>> {
    texts.iter().map(|one| text(one)).collect()
}

fn document(text: impl Into<String>) -> Value<'static> {
    Value::Document(text.into().into())
}

fn decimals(units: &[i128]) -> Vec<Value<'static>> {
    units.iter().map(|units| Value::Decimal(*units)).collect()
}

fn too_large() -> String {
    format!("\"{}\"", "x".repeat((1 << 20) - 1))
}

fn null_or(others: Vec<Value<'static>>) -> Vec<Value<'static>> {
    std::iter::once(Value::Null).chain(others).collect()
}

/// Choices for each column but the first.
fn choices(chain: &Chain, id: Uuid, order: i64) -> Vec<Vec<Value<'static>>> {
    let signals = || [id, Uuid::from_u128(7)].map(|id| Value::Uuid(id.into_bytes())).to_vec();
    let recorder = || texts(&["desk"]);
    let fills = || null_or(decimals(&[-1, 0, 1]));
    match chain.name {
        "ai_debates" => vec![
            signals(),
            texts(&["phi-4"]),
            vec![document("{}"), document(too_large())],
            decimals(&[-1, 0, 10_000, 10_001]),
            [-1, 0, i64::from(i32::MAX)].map(Value::Integer).to_vec(),
            vec![Value::Boolean(true)],
            recorder(),
            vec![Value::Null],
        ],
        "order_execution" => vec![
            signals(),
            texts(&["MARKET", "LIMIT", "STOP", "STOP_LIMIT", "Market", ""]),
            texts(&["X"]),
            texts(&["BUY", "SELL", "buy"]),
            decimals(&[-1, 0, 1]),
            fills(),
            vec![Value::Null],
            texts(&["PENDING", "EXPIRED"]),
            recorder(),
            vec![Value::Null],
        ],
        _ => vec![
            null_or([order, 99].map(Value::Integer).to_vec()),
            texts(&["FILL", "PARTIAL_FILL", "REJECTED", "KILL_SWITCH", "EXPIRED", "fill"]),
            fills(),
            fills(),
            null_or(decimals(&[-5])),
            vec![Value::Null, document("[]"), document(too_large())],
            vec![Value::Null, text("why"), text(&too_large())],
            vec![Value::Null],
            recorder(),
            vec![Value::Null],
        ],
    }
}

#[tokio::test]
async fn rust_and_postgresql_name_the_same_constraint() {
    let ledger = TestLedger::new().await;
    let appender = ledger.appender();
    let known = signal(1);
    let id = known.correlation_id;
    appender.append(known, soon()).await.unwrap();
    appender.append(order(1, id), soon()).await.unwrap();
    drop(appender);
    let mut app = ledger.connect_app().await;
    let mut named = BTreeSet::new();
    let mut taken = 0;
    for to in
        [&ai_debates::CLIENT_CHAIN, &order_execution::CLIENT_CHAIN, &order_events::CLIENT_CHAIN]
    {
        let chain = to.chain;
        let choices = choices(chain, id, 1);
        assert_eq!(choices.len() + 1, chain.columns.len());
        let reference = choices[0].iter().find(|value| **value != Value::Null).unwrap();
        for (at, values) in rows(&choices).into_iter().enumerate() {
            // Rows of a megabyte take their time: some of them do.
            let is_large = values.iter().any(|value| {
                matches!(value, Value::Document(text) | Value::Text(text) if text.len() > 1 << 20)
            });
            if is_large && chain.name == "order_events" && at % 29 != 0 {
                continue;
            }
            let in_rust = named_by_rust(to, &values, reference);
            let in_sql = refused_by(&mut app, chain, &values).await;
            let shown = &format!("{values:?}");
            assert_eq!(in_rust, in_sql.as_deref(), "{}", &shown[..shown.len().min(500)]);
            taken += usize::from(in_rust.is_none());
            named.extend(in_rust);
        }
    }
    assert!(taken > 20, "{taken}");
    named.extend(compare_records(&mut app, id).await);
    // Every constraint of these chains that a sender can violate was met.
    let of_clients =
        CONSTRAINTS.iter().filter(|constraint| !constraint.name.starts_with("signals_"));
    let of_clients: BTreeSet<_> = of_clients.map(|constraint| constraint.name).collect();
    assert_eq!(named, of_clients);
    assert_eq!(ledger.finish().await, 2);
}

const OUTCOME_OF_SIGNAL: &str = "signal_audit_ledger_outcome_of_signal";

/// A record as its producer sends it; an outcome is of no signal that is there.
fn sent(values: &[Value<'static>], columns: &[&str]) -> Json {
    let mut body = json!({ "signal_id": "s-1", "source_module": "ema", "acted_upon": true });
    for (value, name) in values.iter().zip(columns) {
        body[*name] = match value {
            Value::Decimal(units) => ledger_verifier::decimal::to_string(*units, 4).into(),
            Value::Text(text) => text.as_ref().into(),
            Value::Document(text) => serde_json::from_str(text).unwrap(),
            Value::Uuid(bytes) => Uuid::from_bytes(*bytes).to_string().into(),
            _ => Json::Null,
        };
    }
    if values[0] == text("OUTCOME") {
        body.as_object_mut()
            .unwrap()
            .retain(|name, _| !["direction", "conviction"].contains(&&**name));
    } else {
        body["ticker"] = "AAPL".into();
        body["timestamp"] = "2026-01-02T03:04:05Z".into();
    }
    body
}

/// The same for the records of producers: what the reader says is the constraint's, in its words.
async fn compare_records(app: &mut PgConnection, id: Uuid) -> BTreeSet<&'static str> {
    const COLUMNS: [&str; 6] =
        ["record_type", "direction", "conviction", "confidence", "payload_json", "correlation_id"];
    let chain = &SIGNAL_AUDIT_LEDGER;
    let known = Value::Uuid(id.into_bytes());
    let choices = [
        texts(&["SIGNAL", "OUTCOME", "signal"]),
        texts(&["LONG", "UP"]),
        decimals(&[-1, 0, 1_000_000, 1_000_001]),
        null_or(decimals(&[-1, 10_000, 10_001])),
        vec![document("{}"), document(too_large())],
        null_or(vec![known.clone(), Value::Uuid(Uuid::from_u128(7).into_bytes())]),
    ];
    let now = Value::Timestamp(Clock::system().now().timestamp_micros());
    let mut named = BTreeSet::new();
    for (at, values) in rows(&choices).into_iter().enumerate() {
        let values = &values[1..];
        let is_large = matches!(&values[4], Value::Document(text) if text.len() > 1 << 20);
        let is_outcome = values[0] == text("OUTCOME");
        // An outcome has its signal's direction and conviction.
        let is_wrong = values[1] != text("LONG") || values[2] != Value::Decimal(0);
        if is_large && at % 29 != 0 || is_outcome && is_wrong {
            continue;
        }
        let body = sent(values, &COLUMNS).to_string();
        let in_rust = match read_record(body.as_bytes(), "desk", Clock::system().now()) {
            Err(fault) => CONSTRAINTS.iter().find(|constraint| {
                constraint.name.starts_with(chain.name)
                    && fault.detail == format!("{} {}", constraint.field, constraint.rule)
            }),
            Ok(_) if ![Value::Null, known.clone()].contains(&values[5]) => {
                by_name("signal_audit_ledger_correlation_id_fkey")
            }
            Ok(_) => by_name(OUTCOME_OF_SIGNAL).filter(|_| is_outcome),
        };
        let in_rust = in_rust.map(|constraint| constraint.name);
        let row: Vec<_> = chain
            .columns
            .iter()
            .map(|column| match (COLUMNS.iter().position(|name| *name == column.name), column.ty) {
                (Some(at), _) => values[at].clone(),
                (_, ColumnType::Timestamp) => now.clone(),
                (_, ColumnType::Integer) => Value::Integer(0),
                (_, ColumnType::Boolean) => Value::Boolean(true),
                _ if column.nullable => Value::Null,
                _ => text("s-1"),
            })
            .collect();
        let in_sql = refused_by(app, chain, &row).await;
        let shown = body.get(..500).unwrap_or(&body);
        assert_eq!(in_rust, in_sql.as_deref(), "{shown}");
        named.extend(in_rust);
    }
    named
}

/// What a sender cannot violate: the ledger itself fills these, or no number that it reads is one.
const NOT_THE_SENDERS: [&str; 6] = [
    "_pkey",
    "_row_hash_correct",
    "_times_hashable",
    "_zar_equity_number",
    "_price_number",
    "_auth_method_known",
];

#[tokio::test]
async fn every_constraint_of_these_tables_has_words_for_its_sender() {
    let ledger = TestLedger::new().await;
    let mut app = ledger.connect_app().await;
    for table in ["ai_debates", "order_execution", "order_events", "signal_audit_ledger"] {
        // From PostgreSQL 18 on NOT NULL is a constraint here, too; its violation names the column.
        let sql = format!(
            "SELECT array_agg(conname::text) FROM pg_constraint
             WHERE conrelid = 'public.{table}'::regclass AND contype <> 'n'"
        );
        let names: Vec<String> = fetch(&mut app, &sql).await;
        assert!(names.len() > 4);
        for name in names {
            if NOT_THE_SENDERS.iter().any(|end| name.ends_with(end)) {
                continue;
            }
            let constraint = by_name(&name).unwrap_or_else(|| panic!("{name} has no words"));
            let is_reference = constraint.kind == Kind::UnknownReference;
            assert_eq!(is_reference, name.ends_with("_fkey"), "{name}");
        }
    }
    let sql =
        "SELECT count(*) FROM pg_constraint WHERE conname = ANY (string_to_array($$@$$, ','))";
    // A trigger's, by which every way of writing is refused with this name's code.
    let others = CONSTRAINTS.iter().filter(|constraint| constraint.name != OUTCOME_OF_SIGNAL);
    let names: Vec<_> = others.map(|constraint| constraint.name).collect();
    let there: i64 = fetch(&mut app, &sql.replace('@', &names.join(","))).await;
    assert_eq!(there, i64::try_from(names.len()).unwrap(), "names that the database has");
    assert_eq!(ledger.finish().await, 0);
}
