//! What SQL hashes is what Rust hashes, and what COPY carries is what was sent.

mod common;

use audit_ledger::chains::IN_LEDGER;
use audit_ledger::clock::Clock;
use audit_ledger::store::copy::{CopyDecoder, CopyEncoder, copy_columns, decode};
use audit_ledger::store::read::{Ids, Piece, Snapshot};
use base64::Engine;
use common::builders::{one_of_each, signal};
use common::random::{self, config, sample};
use common::{HOSTILE_SCHEMA, TestLedger, fetch, refused, run, soon};
use ledger_verifier::{Chain, ColumnType, RowHash, Value, row_hash};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value as Json;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;
use tokio::sync::mpsc;

/// A value as PostgreSQL reads it from text, under any session's settings.
fn spelt(ty: ColumnType, value: &Value<'_>) -> Option<String> {
    Some(match (ty, value) {
        (_, Value::Null) => return None,
        (_, Value::Integer(number)) => number.to_string(),
        (_, Value::Boolean(flag)) => flag.to_string(),
        (ColumnType::Numeric { scale, .. }, &Value::Decimal(units)) => {
            ledger_verifier::decimal::to_string(units, scale)
        }
        (_, Value::Text(text) | Value::Document(text)) => text.to_string(),
        (_, Value::Uuid(bytes)) => hex::encode(bytes),
        (_, Value::Inet(address)) => address.to_string(),
        (_, &Value::Timestamp(micros)) => {
            chrono::DateTime::from_timestamp_micros(micros).expect("a time").to_rfc3339()
        }
        (_, Value::Bytes(bytes)) => format!("\\x{}", hex::encode(bytes)),
        _ => unreachable!("no such column"),
    })
}

fn sql_type(ty: ColumnType) -> String {
    let name = match ty {
        ColumnType::BigInt => "bigint",
        ColumnType::Integer => "integer",
        ColumnType::Boolean => "boolean",
        // Scale makes the text, so it must be the column's.
        ColumnType::Numeric { precision, scale } => return format!("numeric({precision},{scale})"),
        ColumnType::Text { .. } | ColumnType::Document => "text",
        ColumnType::Uuid => "uuid",
        ColumnType::Inet => "inet",
        ColumnType::Timestamp => "timestamptz",
        ColumnType::Bytes => "bytea",
    };
    name.to_owned()
}

/// `<chain>_hash` of rows, whose link and columns are given as text.
async fn hashes_in_sql(
    connection: &mut PgConnection,
    chain: &Chain,
    rows: &[(RowHash, Vec<Value<'static>>)],
) -> Vec<Option<String>> {
    let arrays: Vec<_> = (1..=chain.columns.len() + 1).map(|n| format!("${n}::text[]")).collect();
    let names: Vec<_> = (0..=chain.columns.len()).map(|n| format!("c{n}")).collect();
    let arguments: Vec<_> = chain
        .columns
        .iter()
        .enumerate()
        .map(|(at, column)| format!("c{}::{}", at + 1, sql_type(column.ty)))
        .collect();
    let sql = format!(
        "SELECT public.{}_hash(c0, {}) FROM unnest({}) WITH ORDINALITY AS r ({}, place)
         ORDER BY place",
        chain.name,
        arguments.join(", "),
        arrays.join(", "),
        names.join(", ")
    );
    let links: Vec<_> = rows.iter().map(|(prev, _)| prev.to_string()).collect();
    let mut query = sqlx::query_scalar(AssertSqlSafe(sql)).bind(links);
    for (at, column) in chain.columns.iter().enumerate() {
        let values: Vec<_> = rows.iter().map(|(_, row)| spelt(column.ty, &row[at])).collect();
        query = query.bind(values);
    }
    query.fetch_all(connection).await.unwrap()
}

fn random_rows(chain: &'static Chain, count: usize) -> Vec<(RowHash, Vec<Value<'static>>)> {
    sample(&(any::<[u8; 32]>().prop_map(RowHash), random::row(chain)), count)
}

async fn assert_sql_hashes_alike(
    connection: &mut PgConnection,
    chain: &'static Chain,
    rows: &[(RowHash, Vec<Value<'static>>)],
    under: &str,
) {
    let in_sql = hashes_in_sql(connection, chain, rows).await;
    assert_eq!(in_sql.len(), rows.len());
    for ((prev, row), in_sql) in rows.iter().zip(in_sql) {
        let in_rust = row_hash(chain, *prev, row).unwrap().to_string();
        assert_eq!(in_sql.as_ref(), Some(&in_rust), "{} {row:?} under {under}", chain.name);
    }
}

#[tokio::test]
async fn random_rows_have_the_same_hash_in_sql_and_in_rust() {
    let ledger = TestLedger::new().await;
    let mut app = ledger.connect_app().await;
    for chain in IN_LEDGER {
        let rows = random_rows(chain, 3000);
        assert_sql_hashes_alike(&mut app, chain, &rows, "the default settings").await;
    }
    assert_eq!(ledger.finish().await, 0);
}

#[tokio::test]
async fn no_setting_of_a_session_changes_a_hash() {
    let ledger = TestLedger::new().await;
    run(&mut ledger.connect_superuser().await, HOSTILE_SCHEMA).await;
    let mut app = ledger.connect_app().await;
    let shadowed = "SELECT encode(sha256('x'::bytea), 'hex') = 'x'";
    for settings in [
        "SET TimeZone = 'Pacific/Apia'; SET DateStyle = 'German, DMY'",
        "SET TimeZone = 'America/St_Johns'; SET DateStyle = 'SQL, MDY'; SET IntervalStyle = iso_8601",
        "SET TimeZone = 'Africa/Monrovia'; SET DateStyle = 'Postgres, DMY'",
        "SET extra_float_digits = -15; SET bytea_output = 'escape'",
        "SET extra_float_digits = 3; SET xmlbinary = hex; SET quote_all_identifiers = on",
        "SET default_transaction_isolation = 'serializable'; SET jit_above_cost = 0; SET jit = on",
        "SET enable_sort = off; SET escape_string_warning = off; SET standard_conforming_strings = off",
        "SET search_path = hostile, pg_catalog, public",
        "SET search_path = ''",
        "SET search_path = pg_temp, hostile, pg_catalog",
    ] {
        run(&mut app, "RESET ALL").await;
        run(&mut app, settings).await;
        if settings.contains("hostile") {
            assert!(fetch::<bool>(&mut app, shadowed).await, "the shadows work");
        }
        for chain in IN_LEDGER {
            let rows = random_rows(chain, 300);
            assert_sql_hashes_alike(&mut app, chain, &rows, settings).await;
        }
    }
    assert_eq!(ledger.finish().await, 0);
}

#[tokio::test]
async fn rows_are_appended_alike_whatever_is_set_for_the_role() {
    let ledger = TestLedger::new().await;
    let mut superuser = ledger.connect_superuser().await;
    run(&mut superuser, HOSTILE_SCHEMA).await;
    for setting in [
        "TimeZone = 'Pacific/Apia'",
        "DateStyle = 'German, DMY'",
        "search_path = hostile, pg_catalog, public",
        "bytea_output = 'escape'",
        "default_transaction_isolation = 'serializable'",
        "default_transaction_read_only = on",
        "synchronous_commit = off",
        "session_replication_role = replica",
    ] {
        let name = ledger.name();
        run(&mut superuser, &format!("ALTER ROLE app_trading IN DATABASE {name} SET {setting}"))
            .await;
    }
    let appender = ledger.appender();
    for n in 1..=3 {
        for row in one_of_each(n) {
            appender.append(row, soon()).await.unwrap();
        }
    }
    drop(appender);
    assert_eq!(ledger.finish().await, 3 * IN_LEDGER.len());
}

#[tokio::test]
async fn the_vectors_load_into_the_tables_and_a_changed_one_does_not() {
    let vectors: Json =
        serde_json::from_str(include_str!("../verifier/tests/vectors/rows.json")).unwrap();
    let ledger = TestLedger::new().await;
    let mut superuser = ledger.connect_superuser_unguarded().await;
    for chain in IN_LEDGER {
        let genesis = format!("SELECT public.ledger_genesis('{}')", chain.name);
        let genesis: String = fetch(&mut superuser, &genesis).await;
        assert_eq!(genesis, vectors["genesis"][chain.name]);
        // They are dated in the past.
        let disable = format!("ALTER TABLE {} DISABLE TRIGGER ledger_enter_rows", chain.name);
        run(&mut superuser, &disable).await;
        let mut loaded = 0;
        for row in vectors["rows"].as_array().unwrap() {
            if row["chain"] != chain.name {
                continue;
            }
            let insert = insert_of(chain, row);
            for (part, other) in [("created_at", "2027-01-02T03:04:07Z"), ("id", "77")] {
                let mut changed = row.clone();
                changed["columns"][part] = other.into();
                assert_eq!(refused(&mut superuser, &insert_of(chain, &changed)).await, "23514");
            }
            run(&mut superuser, &insert).await;
            let id = &row["columns"]["id"];
            let arguments: Vec<_> =
                chain.columns.iter().map(ledger_verifier::Column::stored_name).collect();
            let computed = format!(
                "SELECT public.{0}_hash(prev_hash, {1}) FROM public.{0} WHERE id = {id}",
                chain.name,
                arguments.join(", ")
            );
            assert_eq!(fetch::<String>(&mut superuser, &computed).await, row["row_hash"]);
            loaded += 1;
        }
        assert!(loaded > 1);
    }
    // The log knows none of them.
    ledger.finish_tampered().await;
}

fn insert_of(chain: &Chain, row: &Json) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let values: Vec<_> = chain
        .columns
        .iter()
        .map(|column| match (column.ty, &row["columns"][column.name]) {
            (_, Json::Null) => "NULL".to_owned(),
            (ColumnType::Bytes, Json::String(text)) => {
                let text = text.strip_prefix("base64:").unwrap();
                let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
                format!("'\\x{}'", hex::encode(bytes))
            }
            (_, Json::String(text)) => quoted(text),
            (_, other) => other.to_string(),
        })
        .collect();
    format!(
        "INSERT INTO public.{} ({}) VALUES ({}, {}, {})",
        chain.name,
        copy_columns(chain),
        values.join(", "),
        quoted(row["prev_hash"].as_str().unwrap()),
        quoted(row["row_hash"].as_str().unwrap())
    )
}

#[tokio::test]
async fn what_copy_carries_comes_back_the_same() {
    const ROWS: usize = 2000;
    let ledger = TestLedger::new().await;
    let mut superuser = ledger.disarmed().await;
    for chain in IN_LEDGER {
        let mut encoder = CopyEncoder::new(chain);
        let mut expected = Vec::new();
        let mut id = 0;
        for (prev_hash, mut values) in random_rows(chain, ROWS) {
            id += 1;
            values[0] = Value::Integer(id);
            let hash = row_hash(chain, prev_hash, &values).unwrap();
            encoder.push(&values, prev_hash, hash);
            expected.push((values, prev_hash, hash));
        }
        let statement = format!(
            "COPY public.{} ({}) FROM STDIN (FORMAT binary)",
            chain.name,
            copy_columns(chain)
        );
        let mut copy = superuser.copy_in_raw(&statement).await.unwrap();
        copy.send(encoder.finish()).await.unwrap();
        assert_eq!(copy.finish().await.unwrap(), ROWS as u64);

        let snapshot = Snapshot::take(&ledger.auditor()).await.unwrap();
        let (sender, mut pieces) = mpsc::channel(1);
        let reading = snapshot.read_chain(chain, Ids::default(), sender, |row| {
            let values: Vec<_> = row.values.iter().cloned().map(Value::into_owned).collect();
            (values, RowHash::from_hex(row.prev_hash), RowHash::from_hex(row.row_hash))
        });
        let collecting = async {
            let mut rows = Vec::new();
            while let Some(Piece::Rows(piece)) = pieces.recv().await {
                rows.extend(piece);
            }
            assert!(pieces.recv().await.is_none());
            rows
        };
        let (read, rows) = tokio::join!(reading, collecting);
        read.unwrap();
        snapshot.close().await;
        assert_eq!(rows.len(), expected.len());
        for (row, (values, prev_hash, hash)) in rows.into_iter().zip(expected) {
            assert_eq!(row, (values, Some(prev_hash), Some(hash)));
        }
        // The same rows, read as text by the harness, which knows nothing of COPY.
        let rows = common::read_back::read_chain(&mut superuser, chain).await;
        assert!(rows.iter().all(|row| {
            let computed = row.computed(chain).map(|hash| hash.to_string());
            computed.as_ref() == Some(&row.row_hash)
        }));
    }
    ledger.finish_tampered().await;
}

#[tokio::test]
async fn what_has_no_canonical_form_is_read_as_unhashable() {
    let ledger = TestLedger::new().await;
    let mut superuser = ledger.disarmed().await;
    let query = "COPY (SELECT 'NaN'::numeric, '-Infinity'::numeric, 1e30::numeric, 1e-20::numeric,
        '10.0.0.0/8'::inet, '::/127'::inet, 'infinity'::timestamptz, '-infinity'::timestamptz,
        1.5::numeric, '4713-01-01 BC'::timestamptz) TO STDOUT (FORMAT binary)";
    let mut stream = superuser.copy_out_raw(query).await.unwrap();
    let mut decoder = CopyDecoder::default();
    while let Some(piece) = futures_util::StreamExt::next(&mut stream).await {
        decoder.feed(&piece.unwrap());
    }
    drop(stream);
    let money = ColumnType::Numeric { precision: 28, scale: 10 };
    let (inet, time) = (ColumnType::Inet, ColumnType::Timestamp);
    let types = [money, money, money, money, inet, inet, time, time, money, time];
    let values = decoder
        .next_row(|fields| {
            let pairs = types.into_iter().zip(fields);
            pairs.map(|(ty, field)| decode(ty, *field).into_owned()).collect::<Vec<_>>()
        })
        .unwrap()
        .unwrap();
    let (unhashable, others) = values.split_at(6);
    assert!(unhashable.iter().all(|value| matches!(value, Value::Unhashable(_))), "{values:?}");
    // Infinity is the end of the type's range, which no row hash covers either.
    for value in &others[..2] {
        match value {
            Value::Unhashable(_) => {}
            Value::Timestamp(micros) => assert!(*micros < 0, "{micros}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(others[2], Value::Decimal(15_000_000_000));
    assert!(matches!(others[3], Value::Timestamp(micros) if micros < 0));
    assert_eq!(ledger.finish().await, 0);
}

fn column_type() -> impl Strategy<Value = ColumnType> {
    select(vec![
        ColumnType::BigInt,
        ColumnType::Integer,
        ColumnType::Boolean,
        ColumnType::Numeric { precision: 28, scale: 10 },
        ColumnType::Numeric { precision: 28, scale: 2 },
        ColumnType::Numeric { precision: 5, scale: 4 },
        ColumnType::Text { max_chars: None },
        ColumnType::Uuid,
        ColumnType::Inet,
        ColumnType::Timestamp,
        ColumnType::Document,
        ColumnType::Bytes,
    ])
}

proptest! {
    #![proptest_config(config(20_000))]

    #[test]
    fn no_bytes_make_decode_panic(ty in column_type(), bytes in prop::collection::vec(any::<u8>(), 0..48)) {
        decode(ty, Some(&bytes));
    }

    #[test]
    fn no_numeric_makes_decode_panic(
        head in (any::<u16>(), -20_i16..20, select(vec![0_u16, 0x4000, 0xc000, 0xd000]), any::<u16>()),
        digits in prop::collection::vec(prop_oneof![Just(0_u16), 0..10_000_u16, any::<u16>()], 0..16),
    ) {
        let (count, weight, sign, scale) = head;
        let mut bytes = [count.to_be_bytes(), weight.to_be_bytes(), sign.to_be_bytes(), scale.to_be_bytes()]
            .concat();
        bytes.extend(digits.iter().flat_map(|digit| digit.to_be_bytes()));
        decode(ColumnType::Numeric { precision: 28, scale: 10 }, Some(&bytes));
        decode(ColumnType::Numeric { precision: 5, scale: 4 }, Some(&bytes));
    }

    #[test]
    fn no_stream_makes_the_decoder_panic(
        header in any::<bool>(),
        pieces in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..24),
                // Field counts and lengths, some of them right.
                select(vec![vec![0, 1], vec![0, 2], vec![0xff, 0xff], vec![0xff, 0xfe],
                            vec![0, 0, 0, 3, 1, 2, 3], vec![0xff, 0xff, 0xff, 0xff],
                            vec![0x7f, 0xff, 0xff, 0xff], vec![0x80, 0, 0, 0], vec![0x7f, 0xff]]),
            ],
            0..12,
        ),
    ) {
        let mut decoder = CopyDecoder::default();
        if header {
            decoder.feed(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
        }
        'pieces: for piece in &pieces {
            decoder.feed(piece);
            loop {
                match decoder.next_row(|fields| fields.len()) {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => break 'pieces,
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(config(500))]

    #[test]
    fn a_stream_cut_anywhere_is_decoded_alike(
        rows in prop::collection::vec(random::row(&ledger_verifier::chain::SECURITY_EVENTS), 0..5),
        cuts in prop::collection::vec(1_usize..40, 1..20),
    ) {
        let chain = &ledger_verifier::chain::SECURITY_EVENTS;
        let genesis = RowHash::genesis(chain.name);
        let mut encoder = CopyEncoder::new(chain);
        for values in &rows {
            encoder.push(values, genesis, genesis);
        }
        let stream = encoder.finish();
        let mut decoder = CopyDecoder::default();
        let (mut rest, mut read) = (stream.as_slice(), Vec::new());
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            rest = after;
            prop_assert!(!decoder.finished());
            decoder.feed(piece);
            while let Some(values) = decoder.next_row(|fields| {
                assert_eq!(fields[fields.len() - 2..], [Some(&genesis.to_hex()[..]); 2]);
                let pairs = chain.columns.iter().zip(fields);
                pairs.map(|(column, field)| decode(column.ty, *field).into_owned()).collect::<Vec<_>>()
            }).unwrap() {
                read.push(values);
            }
        }
        prop_assert!(decoder.finished());
        prop_assert_eq!(read, rows);
    }
}

#[tokio::test]
async fn times_are_hashed_in_the_microseconds_that_are_stored() {
    let ledger = TestLedger::new().await;
    assert_eq!(Clock::system().now().timestamp_subsec_nanos() % 1000, 0);
    let appender = ledger.appender();
    let mut row = signal(1);
    row.received_at = chrono::DateTime::from_timestamp_nanos(1_767_323_045_000_000_999);
    appender.append(row, soon()).await.unwrap();
    drop(appender);
    assert_eq!(ledger.finish().await, 1);
}
