//! Lockdown as SQL has it: who enters one, what it stops, and who ends it.

use audit_ledger::chains::{Appended, IN_LEDGER, NewRow};
use audit_ledger::keys::{KeyId, Scope};
use audit_ledger::store::copy::copy_columns;
use audit_ledger::store::keys::{Revocation, revoke_key};
use futures_util::StreamExt;
use futures_util::future::join_all;
use ledger_verifier::Chain;
use sqlx::postgres::PgConnection;

use crate::common::builders::{api_key, event, one_of_each};
use crate::common::{TestLedger, attempt, fetch, refused, run, soon, sqlstate};
use crate::damaged::behind_the_guards;
use crate::{CHAINS, ledger_with};

pub(crate) const LOCKED: &str = "AU009";
pub(crate) const NO_RIGHT: &str = "42501";
pub(crate) const ENTER: &str =
    "SELECT lockdown_id FROM public.ledger_enter_lockdown('a test', '[]', 'tests')";
pub(crate) const ENTERED: &str =
    "SELECT entered FROM public.ledger_enter_lockdown('again', '[1]', 'others')";
pub(crate) const LIFT: &str = "SELECT public.ledger_lift_as_owner('over', '{}')";

fn stays_open(chain: &Chain) -> bool {
    ["security_events", "quarantined_deliveries"].contains(&chain.name)
}

/// A row like the first of its chain, with its place, link, time and hash: what an INSERT or a COPY
/// appends if nothing stops it.
fn next_row(chain: &Chain) -> String {
    let columns: Vec<_> = chain.columns.iter().map(ledger_verifier::Column::stored_name).collect();
    let value = |name: &String| match name.as_str() {
        "id" => "h.id + 1 AS id".to_owned(),
        "created_at" => "greatest(h.created_at, h.clock) AS created_at".to_owned(),
        "signal_id" => "gen_random_uuid()::text AS signal_id".to_owned(),
        "correlation_id" if chain.name == "signals" => {
            "gen_random_uuid() AS correlation_id".to_owned()
        }
        "body" => "t.body || uuid_send(gen_random_uuid()) AS body".to_owned(),
        name => format!("t.{name}"),
    };
    let values: Vec<_> = columns.iter().map(value).collect();
    format!(
        "SELECT r.*, public.{name}_hash(prev_hash, {columns})
         FROM (SELECT {values}, h.row_hash::text AS prev_hash
               FROM public.ledger_begin_append(ARRAY['{name}']) AS h, public.{name} AS t
               WHERE t.id = 1) AS r",
        name = chain.name,
        columns = columns.join(", "),
        values = values.join(", "),
    )
}

pub(crate) fn insert(chain: &Chain) -> String {
    format!("INSERT INTO public.{} ({}) {}", chain.name, copy_columns(chain), next_row(chain))
}

/// The same row by COPY, which wants it from the client.
async fn copy(connection: &mut PgConnection, chain: &Chain) -> Result<u64, sqlx::Error> {
    run(connection, "BEGIN").await;
    let out = format!("COPY ({}) TO STDOUT", next_row(chain));
    let mut rows = Vec::new();
    let mut stream = connection.copy_out_raw(&out).await.unwrap();
    while let Some(piece) = stream.next().await {
        rows.extend_from_slice(&piece.unwrap());
    }
    drop(stream);
    let into = format!("COPY public.{} ({}) FROM STDIN", chain.name, copy_columns(chain));
    let mut copy = connection.copy_in_raw(&into).await.unwrap();
    copy.send(rows).await.unwrap();
    let copied = copy.finish().await;
    run(connection, if copied.is_ok() { "COMMIT" } else { "ROLLBACK" }).await;
    copied
}

/// `append_<chain>` of a row that is right.
pub(crate) fn append(chain: &Chain) -> String {
    let id = "(SELECT correlation_id FROM public.signals WHERE id = 1)";
    let members = match chain.name {
        "signals" => {
            "'signal_id', gen_random_uuid(), 'symbol', 'X', 'side', 'BUY', 'price', 1, 'quantity', 1,
             'raw_payload_text', '{}', 'hmac_verified', false, 'auth_method', 'api_key'"
        }
        "ai_debates" => {
            "'correlation_id', @, 'model_name', 'phi-4', 'reasoning_json', 1,
             'confidence_score', 1, 'elapsed_ms', 1, 'is_timeout', false"
        }
        "order_execution" => {
            "'correlation_id', @, 'order_type', 'MARKET', 'symbol', 'X', 'side', 'BUY',
             'quantity', 1, 'status', 'PENDING'"
        }
        "order_events" => "'order_execution_id', 1, 'event_type', 'EXPIRED'",
        "signal_audit_ledger" => {
            "'signal_id', gen_random_uuid(), 'source_module', 'ema', 'ticker', 'X',
             'direction', 'LONG', 'conviction', 1, 'timestamp', '2026-01-02T03:04:05Z'"
        }
        "security_events" => "'event_type', 'PLAIN', 'actor', 'psql', 'details_text', '{}'",
        _ => {
            "'source', 'psql', 'reason', 'lockdown', 'body', gen_random_uuid()::text,
             'auth_method', 'api_key', 'hmac_verified', false"
        }
    };
    let members = members.replace('@', id);
    format!("SELECT public.append_{}(jsonb_build_object({members}))", chain.name)
}

/// Appends to every chain in each of the three ways; what is stopped must be.
async fn append_everywhere(connection: &mut PgConnection, who: &str, is_locked: bool) -> usize {
    let mut appended = 0;
    for chain in IN_LEDGER {
        let answers = [
            attempt(connection, &insert(chain)).await,
            copy(connection, chain).await,
            attempt(connection, &append(chain)).await,
        ];
        for (way, answer) in ["INSERT", "COPY", "append"].into_iter().zip(answers) {
            if is_locked && !stays_open(chain) {
                let error = answer.expect_err(way);
                let code = sqlstate(&error);
                assert_eq!(code.as_deref(), Some(LOCKED), "{who}: {way} {}: {error}", chain.name);
                let message = error.as_database_error().unwrap().message().to_owned();
                assert!(message.starts_with("AUD-009: the ledger is locked down since 2"));
                assert!(message.ends_with(": a test"), "{message}");
            } else {
                answer.unwrap_or_else(|error| panic!("{who}: {way} {}: {error}", chain.name));
                appended += 1;
            }
        }
    }
    appended
}

#[tokio::test]
async fn a_lockdown_stops_the_business_chains_for_everybody_and_in_every_way() {
    let ledger = ledger_with(1).await;
    let mut rows = CHAINS;
    let mut app = ledger.connect_app().await;
    let mut owner = ledger.connect_owner().await;
    let mut superuser = ledger.connect_superuser().await;
    for is_locked in [false, true, false] {
        rows += append_everywhere(&mut app, "app_trading", is_locked).await;
        rows += append_everywhere(&mut owner, "the owner", is_locked).await;
        for replication_role in ["replica", "origin"] {
            let set = format!("SET session_replication_role = {replication_role}");
            run(&mut superuser, &set).await;
            rows += append_everywhere(&mut superuser, replication_role, is_locked).await;
        }
        let appender = ledger.appender();
        let answer = appender.append(event(1), soon()).await.unwrap();
        assert!(matches!(answer, Appended::Recorded(_)), "{answer:?}");
        run(&mut owner, if is_locked { LIFT } else { ENTER }).await;
        rows += 2;
    }
    // Entered again at the end.
    let last = "SELECT count(*) FROM public.ledger_lockdown()";
    assert_eq!(fetch::<i64>(&mut app, last).await, 1);
    drop((app, owner, superuser));
    assert_eq!(ledger.finish().await, rows);
}

/// What a step leaves: its line and its event.
async fn steps(connection: &mut PgConnection) -> Vec<String> {
    let sql = "SELECT coalesce(array_agg(concat_ws(' ', l.id, l.lockdown_id, l.action, l.actor,
                       l.request_id, e.event_type, e.actor, e.subject) ORDER BY l.id), '{}')
               FROM public.lockdowns AS l
               FULL JOIN (SELECT * FROM public.security_events
                          WHERE event_type LIKE 'LOCKDOWN%') AS e ON e.id = l.security_event_id";
    fetch(connection, sql).await
}

#[tokio::test]
async fn a_lockdown_is_entered_once_and_leaves_both_its_records_or_none() {
    let ledger = TestLedger::new().await;
    for role in ["ledger_auditor", "ledger_migrator"] {
        let mut connection = ledger.connect(role).await;
        assert_eq!(refused(&mut connection, ENTER).await, NO_RIGHT, "{role}");
    }
    let mut app = ledger.connect_app().await;
    for wrong in [
        "NULL, '[]', 'x'",
        "'', '[]', 'x'",
        "'x', NULL, 'x'",
        "'x', '{}', 'x'",
        "'x', '[]', ''",
        "'x', '[]', NULL",
    ] {
        let enter = format!("SELECT public.ledger_enter_lockdown({wrong})");
        assert_eq!(refused(&mut app, &enter).await, "22023", "{wrong}");
    }
    run(&mut app, "BEGIN").await;
    run(&mut app, ENTER).await;
    run(&mut app, "ROLLBACK").await;
    assert_eq!(steps(&mut app).await, Vec::<String>::new());

    // Many see it at once; one enters it.
    let together = join_all((0..6).map(async |_| {
        let mut app = ledger.connect_app().await;
        fetch::<bool>(&mut app, ENTERED).await
    }));
    assert_eq!(together.await.into_iter().filter(|entered| *entered).count(), 1);
    assert!(!fetch::<bool>(&mut ledger.connect_superuser().await, ENTERED).await);
    let entered = "1 1 ENTERED others LOCKDOWN_ENTERED others lockdown 1";
    assert_eq!(steps(&mut app).await, [entered]);
    let findings: String = fetch(&mut app, "SELECT findings::text FROM public.lockdowns").await;
    assert_eq!(findings, "[1]");

    let mut owner = ledger.connect_owner().await;
    run(&mut owner, &format!("BEGIN; {LIFT}; ROLLBACK")).await;
    assert_eq!(steps(&mut app).await, [entered]);
    run(&mut owner, LIFT).await;
    assert_eq!(fetch::<i64>(&mut app, ENTER).await, 3, "the next one");
    let lifted = "2 1 LIFTED ledger_migrator LOCKDOWN_LIFTED_BY_OWNER ledger_migrator lockdown 1";
    let next = "3 3 ENTERED tests LOCKDOWN_ENTERED tests lockdown 3";
    assert_eq!(steps(&mut app).await, [entered, lifted, next]);
    drop((app, owner));
    assert_eq!(ledger.finish().await, 3);
}

#[tokio::test]
async fn a_transaction_older_than_the_lockdown_slips_no_row_in() {
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        for chain in IN_LEDGER.into_iter().filter(|chain| !stays_open(chain)) {
            let ledger = ledger_with(1).await;
            let mut older = ledger.connect_app().await;
            run(&mut older, &format!("BEGIN ISOLATION LEVEL {level}")).await;
            fetch::<i64>(&mut older, "SELECT count(*) FROM public.lockdowns").await;
            run(&mut ledger.connect_app().await, ENTER).await;
            let code = refused(&mut older, &insert(chain)).await;
            let expected = ["40001", "AU011", LOCKED].contains(&code.as_str());
            assert!(expected, "{level} {}: {code}", chain.name);
            run(&mut older, "ROLLBACK").await;
            drop(older);
            assert_eq!(ledger.finish().await, CHAINS + 1);
        }
    }
    // One that had the lock first is done before; one that waits for it comes after.
    let ledger = ledger_with(1).await;
    let mut before = ledger.connect_app().await;
    run(&mut before, "BEGIN").await;
    run(&mut before, &insert(IN_LEDGER[0])).await;
    let entering = async {
        run(&mut ledger.connect_app().await, ENTER).await;
    };
    let waiting = async {
        let mut superuser = ledger.connect_superuser().await;
        let waits = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation =
                     'public.ledger_lock'::regclass AND database = (
                         SELECT oid FROM pg_database WHERE datname = current_database())";
        crate::common::wait_until(&mut superuser, waits).await;
        run(&mut before, "COMMIT").await;
    };
    tokio::join!(entering, waiting);
    assert_eq!(refused(&mut before, &insert(IN_LEDGER[0])).await, LOCKED);
    drop(before);
    assert_eq!(ledger.finish().await, CHAINS + 2);
}

/// An admin's key as SQL takes it: id and secret.
struct Admin {
    id: KeyId,
    sql: String,
}

async fn key(ledger: &TestLedger, name: &str, scopes: &[Scope]) -> Admin {
    let (id, bearer) = api_key(&ledger.owner(), name, scopes).await;
    let secret = bearer.rsplit_once('_').unwrap().1;
    Admin { id, sql: format!("'{id}', '\\x{secret}'") }
}

async fn admin(ledger: &TestLedger, name: &str) -> Admin {
    key(ledger, name, &[Scope::Admin]).await
}

impl Admin {
    fn request(&self) -> String {
        format!(
            "SELECT request_id FROM public.ledger_request_lift({}, 'looked at', ARRAY[repeat('a', 64)])",
            self.sql
        )
    }

    fn confirm(&self, request: i64) -> String {
        format!("SELECT public.ledger_confirm_lift({}, {request})", self.sql)
    }
}

/// The ledger's code and the SQLSTATE with which a step is refused.
async fn refusal(connection: &mut PgConnection, sql: &str) -> (String, String) {
    let error = attempt(connection, sql).await.expect_err(sql);
    let message = error.as_database_error().unwrap().message().to_owned();
    (message[..7].to_owned(), sqlstate(&error).unwrap())
}

fn spelt(code: &str, sqlstate: &str) -> (String, String) {
    (code.to_owned(), sqlstate.to_owned())
}

#[tokio::test]
async fn two_admins_lift_a_lockdown() {
    let ledger = TestLedger::new().await;
    let (one, other) = (admin(&ledger, "one").await, admin(&ledger, "other").await);
    let mut app = ledger.connect_app().await;
    assert_eq!(refusal(&mut app, &one.request()).await, spelt("NTF-001", "P0002"));
    assert_eq!(refusal(&mut app, &one.confirm(1)).await, spelt("NTF-001", "P0002"));
    run(&mut app, ENTER).await;
    let first: i64 = fetch(&mut app, &one.request()).await;
    let expires = "SELECT expires_at - at = interval '15 min' FROM public.lockdowns AS l,
                   public.ledger_request_lift(@, 'again', '{}') AS r WHERE l.id = r.request_id";
    // The line is there for statements after the one that made it.
    assert_eq!(attempt(&mut app, &expires.replace('@', &one.sql)).await.unwrap(), 0);
    assert_eq!(
        (first, fetch::<i64>(&mut app, "SELECT max(id) FROM public.lockdowns").await),
        (2, 3)
    );
    run(&mut app, &other.confirm(first)).await;
    let lines = [
        "1 1 ENTERED tests LOCKDOWN_ENTERED tests lockdown 1",
        "2 1 LIFT_REQUESTED one LOCKDOWN_LIFT_REQUESTED one lockdown 1",
        "3 1 LIFT_REQUESTED one LOCKDOWN_LIFT_REQUESTED one lockdown 1",
        "4 1 LIFTED other 2 LOCKDOWN_LIFTED other lockdown 1",
    ];
    assert_eq!(steps(&mut app).await, lines);
    let sql = "SELECT concat_ws(' ', a.lifted_by, l.reason, l.key_id, left(a.finding_id, 3))
               FROM public.acknowledged_findings AS a JOIN public.lockdowns AS l ON l.id = a.lifted_by";
    assert_eq!(fetch::<String>(&mut app, sql).await, format!("4 looked at {} aaa", other.id));
    let details = "SELECT details ->> 'login' FROM public.security_events
                   WHERE event_type = 'LOCKDOWN_LIFTED'";
    assert_eq!(fetch::<String>(&mut app, details).await, "app_trading");

    // A request is for its own lockdown, and an acknowledged finding stays so.
    run(&mut app, ENTER).await;
    assert_eq!(refusal(&mut app, &other.confirm(first)).await, spelt("NTF-001", "P0002"));
    let second: i64 = fetch(&mut app, &other.request()).await;
    run(&mut app, &one.confirm(second)).await;
    assert_eq!(refusal(&mut app, &one.confirm(second)).await, spelt("NTF-001", "P0002"));
    let count: i64 = fetch(&mut app, "SELECT count(*) FROM public.acknowledged_findings").await;
    assert_eq!(count, 1);
    drop(app);
    assert_eq!(ledger.finish().await, 2 + 4 + 3);
}

#[tokio::test]
async fn who_may_not_lift_does_not() {
    let ledger = TestLedger::new().await;
    let (one, other) = (admin(&ledger, "one").await, admin(&ledger, "other").await);
    let namesake = admin(&ledger, "one").await;
    let revoked = admin(&ledger, "revoked").await;
    let requests_and_goes = admin(&ledger, "gone").await;
    assert_eq!(revoke_key(&ledger.owner(), revoked.id).await.unwrap(), Revocation::Done);
    let all_others = [Scope::Ingest, Scope::Read, Scope::Export, Scope::Verify];
    let reader = key(&ledger, "reader", &all_others).await;
    let mut app = ledger.connect_app().await;
    run(&mut app, ENTER).await;
    let younger = admin(&ledger, "younger").await;
    let wrong_secret = Admin { id: one.id, sql: format!("'{}', '\\x{}'", one.id, "00".repeat(32)) };
    let others_secret =
        Admin { id: one.id, sql: other.sql.replace(&other.id.to_string(), &one.id.to_string()) };
    let nothing = Admin { id: one.id, sql: format!("'{}', NULL", one.id) };
    let nobody = Admin { id: one.id, sql: "NULL, NULL".to_owned() };

    let request: i64 = fetch(&mut app, &one.request()).await;
    let refused_as = spelt("SEC-006", NO_RIGHT);
    for bad in [&wrong_secret, &others_secret, &nothing, &nobody, &revoked, &reader, &younger] {
        assert_eq!(refusal(&mut app, &bad.request()).await, refused_as, "{}", bad.sql);
        assert_eq!(refusal(&mut app, &bad.confirm(request)).await, refused_as, "{}", bad.sql);
    }
    // Nobody confirms what he asked for himself, by whichever key.
    for same in [&one, &namesake] {
        assert_eq!(refusal(&mut app, &same.confirm(request)).await, refused_as, "{}", same.sql);
    }
    for unknown in [1, 99, -1] {
        assert_eq!(refusal(&mut app, &other.confirm(unknown)).await, spelt("NTF-001", "P0002"));
    }
    // Whose key is taken away has not asked for anything any more.
    let gone: i64 = fetch(&mut app, &requests_and_goes.request()).await;
    revoke_key(&ledger.owner(), requests_and_goes.id).await.unwrap();
    assert_eq!(refusal(&mut app, &other.confirm(gone)).await, refused_as);
    for wrong in ["'', '{}'", "NULL, '{}'", "'why', '{x}'", "'why', '{NULL}'"] {
        let request = format!("SELECT public.ledger_request_lift({}, {wrong})", one.sql);
        assert_eq!(refusal(&mut app, &request).await, spelt("VAL-002", "22023"), "{wrong}");
    }
    let lines = "SELECT count(*) FROM public.lockdowns WHERE action <> 'ENTERED'";
    assert_eq!(fetch::<i64>(&mut app, lines).await, 2, "what is refused leaves no line");
    drop(app);
    assert_eq!(ledger.finish().await, 7 + 2 + 1 + 2);
}

#[tokio::test]
async fn nobody_lifts_by_hand() {
    let ledger = TestLedger::new().await;
    let (one, other) = (admin(&ledger, "one").await, admin(&ledger, "other").await);
    let mut app = ledger.connect_app().await;
    run(&mut app, ENTER).await;
    let request: i64 = fetch(&mut app, &one.request()).await;
    for role in ["ledger_auditor", "ledger_migrator"] {
        let mut connection = ledger.connect(role).await;
        assert_eq!(refused(&mut connection, &one.request()).await, NO_RIGHT, "{role}");
        assert_eq!(refused(&mut connection, &other.confirm(request)).await, NO_RIGHT, "{role}");
        assert_eq!(refused(&mut connection, LIFT).await, NO_RIGHT, "{role}");
    }
    for by_hand in [
        LIFT,
        "INSERT INTO public.lockdowns (id, lockdown_id, action, actor, reason, findings,
             security_event_id) VALUES (9, 1, 'LIFTED', 'one', 'x', '[]', 1)",
        "INSERT INTO public.acknowledged_findings VALUES (repeat('b', 64), 1)",
        "UPDATE public.lockdowns SET action = 'LIFTED'",
        "DELETE FROM public.lockdowns",
        "SELECT public.ledger_add_lockdown_line(1, 'LIFTED', 'x', 'x', 1, 'x', '{}')",
    ] {
        assert_eq!(refused(&mut app, by_hand).await, NO_RIGHT, "{by_hand}");
    }
    let mut superuser = ledger.connect_superuser().await;
    for change in ["UPDATE public.lockdowns SET action = 'LIFTED'", "DELETE FROM public.lockdowns"]
    {
        assert_eq!(refused(&mut superuser, change).await, "AU010");
    }
    assert!(!fetch::<bool>(&mut app, ENTERED).await, "it is still in force");
    drop((app, superuser));
    assert_eq!(ledger.finish().await, 2 + 1 + 1);
}

#[tokio::test]
async fn a_request_is_confirmed_within_fifteen_minutes() {
    let ledger = TestLedger::new().await;
    let (one, other) = (admin(&ledger, "one").await, admin(&ledger, "other").await);
    let mut app = ledger.connect_app().await;
    run(&mut app, ENTER).await;
    let request: i64 = fetch(&mut app, &one.request()).await;
    let shift = |minutes: i32| {
        format!(
            "UPDATE public.lockdowns SET at = at - interval '{minutes} min'
             WHERE action = 'LIFT_REQUESTED'"
        )
    };
    behind_the_guards(&ledger, &shift(16)).await;
    assert_eq!(refusal(&mut app, &other.confirm(request)).await, spelt("VAL-002", "22023"));
    behind_the_guards(&ledger, &shift(-2)).await;
    run(&mut app, &other.confirm(request)).await;
    drop(app);
    assert_eq!(ledger.finish().await, 2 + 1 + 2);
}

/// What the service appends in a lockdown is told apart row by row.
#[tokio::test]
async fn a_batch_in_a_lockdown_is_taken_where_its_chain_is_open() {
    let ledger = ledger_with(1).await;
    run(&mut ledger.connect_app().await, ENTER).await;
    let appender = ledger.appender();
    let rows = one_of_each(2).map(|row: NewRow| {
        let appender = appender.clone();
        async move { (row.chain, appender.append(row, soon()).await.unwrap()) }
    });
    for (chain, answer) in join_all(rows).await {
        let is_locked = matches!(&answer, Appended::Locked(lockdown)
            if lockdown.reason == "a test");
        assert_eq!(is_locked, !stays_open(chain), "{answer:?}");
    }
    drop(appender);
    assert_eq!(ledger.finish().await, CHAINS + 1 + 2);
}
