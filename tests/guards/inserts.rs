//! What a client that may INSERT still cannot choose.

use std::fmt::Write;

use crate::common::{TestLedger, attempt, fetch, refused, run};
use crate::{CHAINS, TABLES, ledger_with};

/// The columns of a signal in the order of `signals_hash`, and what they hold in an honest row.
const HONEST: [(&str, &str); 14] = [
    ("id", "h.id + 1"),
    ("correlation_id", "gen_random_uuid()"),
    ("signal_id", "gen_random_uuid()::text"),
    ("symbol", "'BTCUSD'::text"),
    ("side", "'BUY'::text"),
    ("price", "1.5::numeric(28,10)"),
    ("quantity", "2::numeric(28,10)"),
    ("raw_payload_text", "'{}'::text"),
    ("source_ip", "'10.0.0.7'::inet"),
    ("hmac_verified", "false"),
    ("auth_method", "'api_key'::text"),
    ("recorded_by", "'psql'::text"),
    ("received_at", "h.clock"),
    ("created_at", "greatest(h.created_at, h.clock)"),
];

/// An INSERT of one signal that differs from an honest one in these columns; its hash is right
/// unless `row_hash` is among them.
fn signal_with(changes: &[(&str, &str)]) -> String {
    let value = |name: &str, honest: &str| {
        let change = changes.iter().find(|(changed, _)| *changed == name);
        change.map_or(honest, |(_, value)| value).to_owned()
    };
    let names: Vec<_> = HONEST.iter().map(|(name, _)| *name).collect();
    let mut values = String::new();
    for (name, honest) in HONEST {
        write!(values, "{} AS {name}, ", value(name, honest)).unwrap();
    }
    write!(values, "{} AS prev_hash", value("prev_hash", "h.row_hash")).unwrap();
    let names = names.join(", ");
    // What cannot be hashed gets a hash too, so that it is refused for what it is.
    let hash = value("row_hash", "coalesce(public.signals_hash(@), repeat('0', 64))");
    let hash = hash.replace('@', &format!("prev_hash, {names}"));
    format!(
        "INSERT INTO public.signals ({names}, prev_hash, row_hash) SELECT r.*, {hash}
         FROM (SELECT {values} FROM public.ledger_begin_append(ARRAY['signals']) AS h) AS r"
    )
}

#[tokio::test]
async fn an_honest_row_is_taken() {
    let ledger = TestLedger::new().await;
    let mut app = ledger.connect_app().await;
    for _ in 0..3 {
        run(&mut app, &signal_with(&[])).await;
    }
    // A clock that was read a moment ago, a sender's time of any age.
    run(&mut app, &signal_with(&[("received_at", "'1999-12-31 23:59:59Z'::timestamptz")])).await;
    assert_eq!(ledger.finish().await, 4);
}

const NOT_AFTER_HEAD: &str = "AU011";
const CHECK_VIOLATION: &str = "23514";
const UNIQUE_VIOLATION: &str = "23505";

#[tokio::test]
async fn position_link_time_and_hash_cannot_be_chosen() {
    for rows in [0, 3] {
        let ledger = ledger_with(rows).await;
        let mut app = ledger.connect_app().await;
        for (column, value, code) in [
            ("id", "-1", NOT_AFTER_HEAD),
            ("id", "0", NOT_AFTER_HEAD),
            ("id", "h.id + 2", NOT_AFTER_HEAD),
            ("id", "9007199254740991", NOT_AFTER_HEAD),
            ("id", "9223372036854775807", NOT_AFTER_HEAD),
            ("id", "(-9223372036854775808)::bigint", "22003"),
            ("created_at", "'1999-12-31 23:59:59Z'::timestamptz", NOT_AFTER_HEAD),
            ("created_at", "'1970-01-01 00:00:00Z'::timestamptz", NOT_AFTER_HEAD),
            ("created_at", "h.clock - interval '61 s'", NOT_AFTER_HEAD),
            ("created_at", "h.clock + interval '5 s'", NOT_AFTER_HEAD),
            ("created_at", "h.clock + interval '100 years'", NOT_AFTER_HEAD),
            ("created_at", "'9999-12-31 23:59:59.999999Z'::timestamptz", NOT_AFTER_HEAD),
            ("created_at", "'10000-01-01 00:00:00Z'::timestamptz", CHECK_VIOLATION),
            ("created_at", "'0044-03-15 12:00:00Z BC'::timestamptz", CHECK_VIOLATION),
            ("created_at", "'infinity'::timestamptz", CHECK_VIOLATION),
            ("created_at", "'-infinity'::timestamptz", CHECK_VIOLATION),
            ("prev_hash", "repeat('0', 64)", NOT_AFTER_HEAD),
            ("prev_hash", "public.ledger_genesis('security_events')", NOT_AFTER_HEAD),
            ("prev_hash", "upper(h.row_hash)", NOT_AFTER_HEAD),
            ("prev_hash", "''", NOT_AFTER_HEAD),
            ("row_hash", "repeat('0', 64)", CHECK_VIOLATION),
            ("row_hash", "upper(public.signals_hash(@))", CHECK_VIOLATION),
            ("row_hash", "prev_hash", CHECK_VIOLATION),
            ("row_hash", "''", CHECK_VIOLATION),
        ] {
            let insert = signal_with(&[(column, value)]);
            assert_eq!(refused(&mut app, &insert).await, code, "{column} = {value}");
        }
        assert_eq!(ledger.finish().await, CHAINS * rows as usize);
    }
}

#[tokio::test]
async fn a_fork_is_refused_in_each_of_its_forms() {
    let ledger = ledger_with(3).await;
    let mut app = ledger.connect_app().await;
    let second = "(SELECT row_hash::text FROM public.signals WHERE id = 2)";
    for (changes, code) in [
        // The third row again, another one beside it, and one on top of an older one.
        (vec![("id", "h.id")], UNIQUE_VIOLATION),
        (vec![("id", "h.id"), ("prev_hash", second)], UNIQUE_VIOLATION),
        (vec![("prev_hash", second)], NOT_AFTER_HEAD),
        (vec![("id", "1"), ("prev_hash", "public.ledger_genesis('signals')")], UNIQUE_VIOLATION),
        (vec![("prev_hash", "public.ledger_genesis('signals')")], NOT_AFTER_HEAD),
        (
            vec![("correlation_id", "(SELECT correlation_id FROM public.signals WHERE id = 1)")],
            UNIQUE_VIOLATION,
        ),
        (
            vec![
                ("signal_id", "(SELECT signal_id::text FROM public.signals WHERE id = 1)"),
                ("recorded_by", "'tradingview'::text"),
            ],
            UNIQUE_VIOLATION,
        ),
    ] {
        assert_eq!(refused(&mut app, &signal_with(&changes)).await, code, "{changes:?}");
    }
    assert_eq!(ledger.finish().await, 3 * CHAINS);
}

#[tokio::test]
async fn values_without_a_canonical_form_are_refused() {
    let ledger = TestLedger::new().await;
    let mut app = ledger.connect_app().await;
    let times = [
        "'infinity'",
        "'-infinity'",
        "'0044-03-15 12:00:00Z BC'",
        "'2026-03-15 BC'",
        "'1969-12-31 23:59:59.999999Z'",
        "'10000-01-01 00:00:00Z'",
        "'294276-12-31 23:59:59Z'",
    ];
    for time in times {
        let insert = signal_with(&[("received_at", &format!("{time}::timestamptz"))]);
        assert_eq!(refused(&mut app, &insert).await, CHECK_VIOLATION, "{time}");
    }
    for mask in ["10.0.0.0/8", "10.0.0.7/31", "::/0", "2001:db8::/32", "2001:db8::1/127"] {
        let insert = signal_with(&[("source_ip", &format!("'{mask}'::inet"))]);
        assert_eq!(refused(&mut app, &insert).await, CHECK_VIOLATION, "{mask}");
    }
    for column in ["price", "quantity"] {
        for (number, code) in [
            ("'NaN'::numeric", CHECK_VIOLATION),
            ("'NaN'::numeric(28,10)", CHECK_VIOLATION),
            ("0::numeric(28,10)", CHECK_VIOLATION),
            ("'-0.0000000001'::numeric(28,10)", CHECK_VIOLATION),
            ("'Infinity'::numeric", "22003"),
            ("'-Infinity'::numeric", "22003"),
            ("1e18::numeric", "22003"),
            // What PostgreSQL rounds does not have the hash of what was meant.
            ("1.00000000001::numeric", CHECK_VIOLATION),
            ("1.5::numeric", CHECK_VIOLATION),
        ] {
            let insert = signal_with(&[(column, number)]);
            assert_eq!(refused(&mut app, &insert).await, code, "{column} = {number}");
        }
    }
    for (column, value, code) in [
        ("side", "'buy'::text", CHECK_VIOLATION),
        ("side", "'HOLD'::text", CHECK_VIOLATION),
        ("auth_method", "'none'::text", CHECK_VIOLATION),
        ("raw_payload_text", "'{'::text", "22P02"),
        ("raw_payload_text", "'\"' || repeat('x', 1048576) || '\"'", CHECK_VIOLATION),
        ("symbol", "repeat('x', 21)", "22001"),
        ("source_ip", "NULL::inet", "23502"),
        ("created_at", "NULL::timestamptz", "23502"),
    ] {
        let insert = signal_with(&[(column, value)]);
        assert_eq!(refused(&mut app, &insert).await, code, "{column} = {value}");
    }
    assert_eq!(ledger.finish().await, 0);
}

#[tokio::test]
async fn several_rows_of_one_statement_must_follow_each_other() {
    let ledger = ledger_with(1).await;
    let mut app = ledger.connect_app().await;
    let insert = |second: &str, order: &str| {
        format!(
            "WITH first AS (
                 SELECT h.id + 1 AS id, 'PLAIN'::text AS event_type, 'psql'::text AS actor,
                        NULL::text AS subject, '{{}}'::text AS details_text,
                        NULL::inet AS source_ip, h.clock AS created_at,
                        h.row_hash::text AS prev_hash
                 FROM public.ledger_begin_append(ARRAY['security_events']) AS h),
             hashed AS (
                 SELECT *, public.security_events_hash(prev_hash, id, event_type, actor, subject,
                     details_text, source_ip, created_at) AS row_hash
                 FROM first),
             second AS (
                 SELECT r.*, public.security_events_hash(prev_hash, id, event_type, actor, subject,
                     details_text, source_ip, created_at) AS row_hash
                 FROM (SELECT {second} FROM hashed) AS r)
             INSERT INTO public.security_events (id, event_type, actor, subject, details_text,
                 source_ip, created_at, prev_hash, row_hash)
             SELECT * FROM (SELECT * FROM hashed UNION ALL SELECT * FROM second) AS rows
             ORDER BY id {order}"
        )
    };
    let second = |id: &str, created_at: &str, prev_hash: &str| {
        format!(
            "{id} AS id, event_type, actor, subject, details_text, source_ip,
             {created_at} AS created_at, {prev_hash} AS prev_hash"
        )
    };
    for wrong in [
        second("id + 2", "created_at", "row_hash"),
        second("id + 1", "created_at", "prev_hash"),
        second("id + 1", "created_at - interval '1 us'", "row_hash"),
        second("id + 1", "created_at + interval '1 h'", "row_hash"),
        second("id - 5", "created_at", "row_hash"),
    ] {
        assert_eq!(refused(&mut app, &insert(&wrong, "ASC")).await, NOT_AFTER_HEAD, "{wrong}");
    }
    let right = second("id + 1", "created_at", "row_hash");
    run(&mut app, &insert(&right, "ASC")).await;
    run(&mut app, &insert(&right, "DESC")).await;
    assert_eq!(ledger.finish().await, CHAINS + 4);
}

#[tokio::test]
async fn an_insert_that_meets_a_row_changes_nothing() {
    let ledger = ledger_with(2).await;
    let mut app = ledger.connect_app().await;
    let mut superuser = ledger.connect_superuser().await;
    let twin = signal_with(&[("id", "h.id")]);
    let update = format!("{twin} ON CONFLICT (id) DO UPDATE SET symbol = 'X'");
    assert_eq!(refused(&mut app, &update).await, "42501");
    assert_eq!(refused(&mut superuser, &update).await, "AU002");
    let elsewhere = format!("{} ON CONFLICT (id) DO UPDATE SET symbol = 'X'", signal_with(&[]));
    assert_eq!(refused(&mut superuser, &elsewhere).await, "AU002", "even where no row is met");
    assert_eq!(attempt(&mut app, &format!("{twin} ON CONFLICT DO NOTHING")).await.unwrap(), 0);
    let empty = format!("{} WHERE false", signal_with(&[]));
    assert_eq!(attempt(&mut app, &empty).await.unwrap(), 0);
    assert_eq!(ledger.finish().await, 2 * CHAINS);
}

#[tokio::test]
async fn a_superuser_is_held_to_the_same_rules_under_every_replication_role() {
    let ledger = ledger_with(2).await;
    let mut superuser = ledger.connect_superuser().await;
    for role in ["origin", "local", "replica"] {
        run(&mut superuser, &format!("SET session_replication_role = {role}")).await;
        for (column, value, code) in [
            ("id", "-1", NOT_AFTER_HEAD),
            ("id", "h.id + 2", NOT_AFTER_HEAD),
            ("created_at", "'1999-12-31 23:59:59Z'::timestamptz", NOT_AFTER_HEAD),
            ("prev_hash", "repeat('0', 64)", NOT_AFTER_HEAD),
            ("row_hash", "repeat('0', 64)", CHECK_VIOLATION),
            ("price", "'NaN'::numeric(28,10)", CHECK_VIOLATION),
        ] {
            let insert = signal_with(&[(column, value)]);
            assert_eq!(refused(&mut superuser, &insert).await, code, "{column} = {value}");
        }
        // Its rows are entered into the log like everybody's.
        run(&mut superuser, &signal_with(&[])).await;
    }
    assert_eq!(ledger.finish().await, 2 * CHAINS + 3);
}

#[tokio::test]
async fn nobody_writes_the_log() {
    let ledger = ledger_with(1).await;
    let insert = "INSERT INTO public.ledger_log SELECT 6, 'signals', 2, repeat('0', 64)";
    let nothing = format!("{insert} WHERE false");
    for role in ["app_trading", "ledger_auditor", "ledger_migrator"] {
        let mut connection = ledger.connect(role).await;
        assert_eq!(refused(&mut connection, insert).await, "42501", "{role}");
    }
    let mut owner = ledger.connect_owner().await;
    let mut superuser = ledger.connect_superuser().await;
    for connection in [&mut owner, &mut superuser] {
        for insert in [insert, &nothing, "COPY public.ledger_log FROM PROGRAM 'true'"] {
            let code = refused(connection, insert).await;
            assert!(code == NOT_AFTER_HEAD || code == "42501", "{code}: {insert}");
        }
    }
    run(&mut superuser, "SET session_replication_role = replica").await;
    assert_eq!(refused(&mut superuser, insert).await, NOT_AFTER_HEAD);
    let leaves: i64 = fetch(&mut superuser, "SELECT count(*) FROM public.ledger_log").await;
    assert_eq!(leaves, i64::try_from(CHAINS).unwrap());
    assert_eq!(ledger.finish().await, CHAINS);
}

/// Tables that only the database's own functions and triggers fill.
const OF_FUNCTIONS: [&str; 4] =
    ["ledger_log", "lockdowns", "acknowledged_findings", "recorded_refusals"];

#[tokio::test]
async fn the_auditor_inserts_nowhere_and_the_service_only_where_it_must() {
    let ledger = ledger_with(1).await;
    for (role, insertable) in [
        ("ledger_auditor", vec![]),
        ("ledger_migrator", vec![]),
        ("app_trading", TABLES.into_iter().filter(|table| !OF_FUNCTIONS.contains(table)).collect()),
    ] {
        let mut connection = ledger.connect(role).await;
        for table in TABLES {
            let sql = format!("SELECT has_any_column_privilege('public.{table}', 'INSERT')");
            let may: bool = fetch(&mut connection, &sql).await;
            assert_eq!(may, insertable.contains(&table), "{role} on {table}");
        }
    }
    // Its own word on who checked and when is the database's.
    let mut app = ledger.connect_app().await;
    crate::insert_checks(&ledger.app(), &[crate::check_record()]).await.unwrap();
    for (column, value, code) in [
        // GENERATED ALWAYS is told before the missing right.
        ("id", "7", "428C9"),
        ("checked_by", "'postgres'", "42501"),
        ("checked_at", "'2020-01-01 00:00Z'", "42501"),
    ] {
        let insert = format!(
            "INSERT INTO public.integrity_checks (run_id, chain, kind, expected_count, actual_count,
                 finished, findings_count, findings, duration_ms, checked_with, {column})
             VALUES (gen_random_uuid(), 'signals', 'full', 0, 0, true, 0, '[]', 0, '', {value})"
        );
        assert_eq!(refused(&mut app, &insert).await, code, "{column}");
    }
    let by: String = fetch(&mut app, "SELECT checked_by::text FROM public.integrity_checks").await;
    assert_eq!(by, "app_trading");
    assert_eq!(ledger.finish().await, CHAINS);
}

/// The time of the row before is no excuse: a chain that was quiet overnight takes no row of that
/// night.
#[tokio::test]
async fn a_quiet_chain_cannot_be_back_dated() {
    let ledger = ledger_with(1).await;
    // The same trigger, with less patience than a minute.
    let impatient = "DO $$
        BEGIN
            EXECUTE replace(pg_get_functiondef('public.ledger_enter_rows'::regproc), '60 s', '1 s');
        END
        $$";
    ledger.change_guards(impatient).await;
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    let mut app = ledger.connect_app().await;
    for old in ["h.created_at", "h.created_at + interval '100 ms'"] {
        let insert = signal_with(&[("created_at", old)]);
        assert_eq!(refused(&mut app, &insert).await, NOT_AFTER_HEAD, "{old}");
    }
    run(&mut app, &signal_with(&[])).await;
    assert_eq!(ledger.finish().await, CHAINS + 1);
}

/// The log gives an inner INSERT its leaf before the outer one, whose row stands before it.
#[tokio::test]
async fn an_append_within_an_insert_is_refused() {
    let ledger = ledger_with(1).await;
    let mut app = ledger.connect_app().await;
    let inner = r#"append_signals('{"signal_id":"inner","symbol":"X","side":"BUY","price":1,
        "quantity":1,"raw_payload":{},"auth_method":"api_key","hmac_verified":false}')"#;
    let nested = format!("{} RETURNING (SELECT id FROM {inner})", signal_with(&[]));
    assert_eq!(refused(&mut app, &nested).await, NOT_AFTER_HEAD);
    run(&mut app, &format!("SELECT * FROM {inner}")).await;
    assert_eq!(ledger.finish().await, CHAINS + 1);
}

#[tokio::test]
async fn a_hole_in_a_damaged_chain_is_not_filled() {
    let ledger = TestLedger::new().await;
    let mut app = ledger.connect_app().await;
    for _ in 0..4 {
        run(&mut app, &signal_with(&[])).await;
    }
    let hole = "DELETE FROM public.signals WHERE id = 3;
                DELETE FROM public.ledger_log WHERE chain = 'signals' AND id = 3";
    crate::damaged::behind_the_guards(&ledger, hole).await;
    let before = "(SELECT row_hash::text FROM public.signals WHERE id = 2)";
    let filling = signal_with(&[("id", "3::bigint"), ("prev_hash", before)]);
    assert_eq!(refused(&mut app, &filling).await, NOT_AFTER_HEAD);
    run(&mut app, &signal_with(&[])).await;
    let last: i64 = fetch(&mut app, "SELECT max(id) FROM public.signals").await;
    assert_eq!(last, 5);
    drop(app);
    ledger.finish_tampered().await;
}

/// Ids that no row can have are passed over.
#[tokio::test]
async fn a_forged_id_does_not_stop_what_comes_after() {
    for id in ["-5", "0", "9223372036854775807"] {
        let ledger = ledger_with(1).await;
        let forged = format!(
            "INSERT INTO public.security_events (id, event_type, actor, details_text, prev_hash,
                 row_hash, created_at)
             SELECT {id}, 'FORGED', 'x', '{{}}', prev, public.security_events_hash(
                 prev, {id}, 'FORGED', 'x', NULL, '{{}}', NULL, '2026-01-01 00:00Z'),
                 '2026-01-01 00:00Z' FROM repeat('0', 64) AS prev"
        );
        crate::damaged::behind_the_guards(&ledger, &forged).await;
        let mut app = ledger.connect_app().await;
        let append = "SELECT id FROM append_security_events(
            '{\"event_type\":\"X\",\"actor\":\"y\",\"details\":{}}')";
        assert_eq!(fetch::<i64>(&mut app, append).await, 2, "{id}");
        drop(app);
        ledger.finish_tampered().await;
    }
}
