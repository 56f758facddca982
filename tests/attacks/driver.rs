//! Runs the cells of the table for those who attack over SQL, and looks at what came of it.

use audit_ledger::chains::{Identity, NewRow};
use audit_ledger::clock::Clock;
use audit_ledger::integrity::outside::Subject;
use audit_ledger::integrity::report::{Report, Verdict};
use audit_ledger::integrity::run::{CheckDone, run_check};
use audit_ledger::integrity::verify::{Progress, Scope, verify};
use audit_ledger::keys;
use audit_ledger::store::lockdown::record_refusals;
use futures_util::StreamExt;
use ledger_verifier::{Finding, FindingKind};
use sqlx::postgres::PgConnection;

use crate::common::builders::{api_key, one_of_each, order, signal};
use crate::common::checkpoints::rows_of_checkpoints;
use crate::common::forger::{COVER, UNCOVER};
use crate::common::{TestLedger, attempt, fetch, refused, run, soon, sqlstate};
use crate::statements::{Table, code_of, contents, forged, statement, tables};
use crate::{Action, Attacker, Cell, On, cells};

/// The codes whose refusals the ledger counts.
const COUNTED: [&str; 7] = ["AU002", "AU003", "AU004", "AU005", "AU006", "AU007", "AU010"];

/// Ledgers that are attacked at once.
const AT_ONCE: usize = 8;

struct Silent;

impl Progress for Silent {
    fn compared(&mut self, _entries: u64, _of: u64) {}

    fn found(&mut self, _finding: &Finding, _acknowledged: bool) {}
}

/// A ledger with two rows and more in every table: beside the chains a check, a key, an order that
/// was sent with an idempotency key, a lockdown that was lifted, an attempt that was refused, and a
/// checkpoint that an anchor keeps.
pub(crate) async fn ledger_with_rows_everywhere() -> TestLedger {
    let ledger = TestLedger::new().await;
    let appender = ledger.appender();
    for n in 1..=2 {
        for row in one_of_each(n) {
            appender.append(row, soon()).await.unwrap();
        }
    }
    let signal = signal(3);
    let mut keyed = order(3, signal.correlation_id);
    let (recorded_by, key) = ("executor".to_owned(), "k-1".to_owned());
    keyed.identity = Identity::Request { recorded_by, key, content: [7; 32] };
    for row in [NewRow::from(signal), keyed] {
        appender.append(row, soon()).await.unwrap();
    }
    rows_of_checkpoints(&ledger, &appender).await;
    let mut app = ledger.connect_app().await;
    run(&mut app, "SELECT public.ledger_enter_lockdown('a test', '[]', 'tests')").await;
    let lift = "SELECT public.ledger_lift_as_owner('over', ARRAY[repeat('0', 64)])";
    run(&mut ledger.connect_owner().await, lift).await;
    api_key(&ledger.owner(), "desk", &[keys::Scope::Read]).await;
    assert_eq!(check(&ledger).await.report.verdict(), Verdict::Verified);
    let mut superuser = ledger.connect_superuser().await;
    assert_eq!(refused(&mut superuser, "DELETE FROM public.ledger_log").await, "AU010");
    assert_eq!(record_refusals(&ledger.app()).await.unwrap(), 1);
    let tables = tables(&mut superuser).await;
    for (table, rows) in tables.iter().zip(contents(&mut superuser, &tables).await) {
        let stays_empty = table.name.ends_with("_lock");
        assert_eq!(rows.is_empty(), stays_empty, "rows of {}", table.name);
    }
    ledger
}

async fn locked_ledger() -> TestLedger {
    let ledger = ledger_with_rows_everywhere().await;
    lock(&ledger).await;
    ledger
}

pub(crate) async fn lock(ledger: &TestLedger) {
    let enter = "SELECT public.ledger_enter_lockdown('another test', '[]', 'tests')";
    run(&mut ledger.connect_app().await, enter).await;
}

async fn check(ledger: &TestLedger) -> CheckDone {
    let done =
        run_check(&Subject::of(ledger.app()), Scope::Ledger, Clock::system(), &mut Silent).await;
    done.unwrap().expect("no other check is running")
}

/// Proves that the whole ledger is what was recorded, and every guard as it was made.
pub(crate) async fn assert_verifies(ledger: &TestLedger, after: &str) {
    let run_id = Clock::system().new_id();
    let report =
        verify(&Subject::of(ledger.auditor()), Scope::Ledger, run_id, &mut Silent).await.unwrap();
    assert_eq!(report.verdict(), Verdict::Verified, "{after}: {:?}", report.chains);
    assert!(report.notes.is_empty() && report.guards().unwrap().rows > 300, "{after}");
}

/// Attacks one table.
async fn attack(
    ledger: &TestLedger,
    attacker: Attacker,
    action: Action,
    table: &Table,
) -> Result<(), sqlx::Error> {
    let copied = match action {
        Action::Copy => Some(data_to_copy(&mut ledger.connect_superuser().await, table).await),
        _ => None,
    };
    let mut connection = match attacker {
        Attacker::Service => ledger.connect_app().await,
        Attacker::Auditor => ledger.connect("ledger_auditor").await,
        Attacker::Owner => ledger.connect_owner().await,
        Attacker::Superuser | Attacker::Covered => ledger.connect_superuser().await,
        Attacker::Disarmed => ledger.disarmed().await,
        Attacker::Anonymous | Attacker::IngestKey => unreachable!("they speak HTTP"),
    };
    let is_covered = attacker == Attacker::Covered;
    if is_covered {
        run(&mut connection, COVER).await;
    }
    if let Some((copy, data)) = copied {
        let mut copy = connection.copy_in_raw(&copy).await?;
        copy.send(data).await?;
        copy.finish().await?;
    }
    attempt(&mut connection, &statement(action, table, is_covered)).await?;
    if is_covered {
        run(&mut connection, UNCOVER).await;
    }
    Ok(())
}

/// The COPY of a forged row, and its data.
async fn data_to_copy(superuser: &mut PgConnection, table: &Table) -> (String, Vec<u8>) {
    let (columns, select) = table.new_row(forged(Action::Copy));
    let mut stream = superuser.copy_out_raw(&format!("COPY ({select}) TO STDOUT")).await.unwrap();
    let mut data = Vec::new();
    while let Some(piece) = stream.next().await {
        data.extend_from_slice(&piece.unwrap());
    }
    (format!("COPY public.{} ({columns}) FROM STDIN", table.name), data)
}

/// Runs the cells of an attacker who is refused, and of what he may do without harm, on one ledger.
pub(crate) async fn run_refused(attacker: Attacker) {
    let open = ledger_with_rows_everywhere().await;
    let locked = locked_ledger().await;
    let mut cells_run = 0;
    for (action, on, cell) in cells(attacker) {
        if matches!(cell, Cell::Found(_) | Cell::Unseen(_)) {
            continue;
        }
        let ledger = if action == Action::InsertWhileLocked { &locked } else { &open };
        let mut superuser = ledger.connect_superuser().await;
        let all = tables(&mut superuser).await;
        for table in all.iter().filter(|table| table.is_on(on)) {
            let what = format!("{attacker:?} {action:?} {}", table.name);
            let before = contents(&mut superuser, &all).await;
            let answer = attack(ledger, attacker, action, table).await;
            let code = answer
                .as_ref()
                .err()
                .map(|error| sqlstate(error).unwrap_or_else(|| panic!("{what}: {error}")));
            let expected = match cell {
                Cell::Refused(code) => Some(code),
                Cell::Guarded => Some(code_of(action, table)),
                // Of what one has no right at all to, one cannot even be warned.
                Cell::Allowed(_) if action == Action::Grant && code.is_some() => Some("42501"),
                _ => None,
            };
            assert_eq!(code.as_deref(), expected, "{what}: {answer:?}");
            if let Some(code) = expected {
                assert_eq!(contents(&mut superuser, &all).await, before, "{what} left something");
                assert_recorded(ledger, &mut superuser, code, &what).await;
            }
            cells_run += 1;
        }
        assert_verifies(ledger, &format!("{attacker:?} {action:?}")).await;
    }
    assert!(cells_run > 200, "{cells_run}");
    open.finish().await;
    locked.finish().await;
}

/// An attempt that a trigger refused is a security event with its code; one that lacks a right
/// reaches no trigger.
async fn assert_recorded(
    ledger: &TestLedger,
    superuser: &mut PgConnection,
    code: &str,
    what: &str,
) {
    let is_counted = COUNTED.contains(&code);
    let events = record_refusals(&ledger.app()).await.unwrap();
    assert_eq!(events, i32::from(is_counted), "{what}: {code}");
    if is_counted {
        let last =
            "SELECT event_type || ' ' || subject || ' ' || (details_text::jsonb ->> 'attempts')
                    FROM public.security_events ORDER BY id DESC LIMIT 1";
        let expected = format!("CHANGE_REFUSED AUD-{} 1", &code[2..]);
        assert_eq!(fetch::<String>(superuser, last).await, expected, "{what}");
    }
}

/// Runs the cells of an attacker whom nothing stops, each on a ledger of its own.
pub(crate) async fn run_found(attacker: Attacker, picked: fn(On) -> bool) {
    let mut cells_run = 0;
    for (action, on, cell) in cells(attacker).filter(|(_, on, _)| picked(*on)) {
        let is_refused = !matches!(cell, Cell::Found(_) | Cell::Unseen(_));
        if attacker == Attacker::Superuser && is_refused {
            continue;
        }
        cells_run += run_row(attacker, action, on, cell).await;
    }
    assert!(cells_run > 1, "{cells_run}");
}

/// Attacks every table that a row is about, on one ledger; of tables that are gone, each alone.
async fn run_row(attacker: Attacker, action: Action, on: On, cell: Cell) -> usize {
    let ledger = new_ledger(action).await;
    let all = tables(&mut ledger.connect_superuser().await).await;
    let targets: Vec<_> = all.into_iter().filter(|table| table.is_on(on)).collect();
    if action == Action::Drop {
        // Some of them keep the service trying for half a minute to record what it found.
        let alone = targets.iter().map(async |table| {
            let ledger = new_ledger(action).await;
            run_on(&ledger, attacker, action, on, cell, std::slice::from_ref(table)).await;
            ledger.discard().await;
        });
        futures_util::stream::iter(alone).buffer_unordered(AT_ONCE).collect::<()>().await;
    } else {
        run_on(&ledger, attacker, action, on, cell, &targets).await;
    }
    ledger.discard().await;
    targets.len()
}

async fn run_on(
    ledger: &TestLedger,
    attacker: Attacker,
    action: Action,
    on: On,
    cell: Cell,
    tables: &[Table],
) {
    let names: Vec<_> = tables.iter().map(|table| table.name.as_str()).collect();
    let what = format!("{attacker:?} {action:?} {names:?}");
    for table in tables {
        let answer = attack(ledger, attacker, action, table).await;
        let code = answer.as_ref().err().map(|error| sqlstate(error).expect(&what));
        let expected = if let Cell::Refused(code) = cell { Some(code) } else { None };
        assert_eq!(code.as_deref(), expected, "{what} {}: {answer:?}", table.name);
    }
    match cell {
        Cell::Refused(_) => assert_verifies(ledger, &what).await,
        Cell::Found(kind) => {
            let done = check(ledger).await;
            for table in tables {
                assert_told(&done.report, kind, on, &table.name, &what);
            }
            assert_consequences(ledger, &done, attacker, kind, &what).await;
        }
        Cell::Unseen(why) | Cell::Allowed(why) => {
            let verdict = check(ledger).await.report.verdict();
            assert_eq!(verdict, Verdict::Verified, "{what}: it is seen, where {why:?}");
        }
        other => panic!("{what}: {other:?} is for who is refused"),
    }
}

async fn new_ledger(action: Action) -> TestLedger {
    match action {
        Action::InsertWhileLocked => locked_ledger().await,
        _ => ledger_with_rows_everywhere().await,
    }
}

/// A finding about rows names their chain; one about guards, what hangs on the table.
fn assert_told(report: &Report, kind: FindingKind, on: On, table: &str, what: &str) {
    let listed = report.chains.iter().flat_map(|chain| &chain.findings);
    let found: Vec<_> = listed.map(|listed| &listed.finding).collect();
    let is_about = |finding: &Finding| match (on, kind) {
        (On::Once | On::Log | On::Signed, _) => true,
        (_, FindingKind::GuardDrift) => finding.detail.contains(table),
        _ => finding.chain == table,
    };
    let told = found.iter().any(|finding| finding.kind == kind && is_about(finding));
    assert!(told, "{what}: no {kind:?} of {table} among {found:?}");
}

/// Tampering locks the ledger, whoever checks; changed guards do not.
async fn assert_consequences(
    ledger: &TestLedger,
    done: &CheckDone,
    attacker: Attacker,
    kind: FindingKind,
    what: &str,
) {
    let is_drift = kind == FindingKind::GuardDrift;
    let verdict = if is_drift { Verdict::GuardDrift } else { Verdict::Tampered };
    assert_eq!(done.report.verdict(), verdict, "{what}: {:?}", done.report);
    assert_eq!(done.lockdown.is_some(), !is_drift, "{what}: {:?}", done.notes);
    if is_drift {
        return;
    }
    let guards = done.report.guards().unwrap();
    assert_eq!(guards.findings_count == 0, attacker == Attacker::Covered, "{what}: guards");
    let mut superuser = ledger.connect_superuser().await;
    let in_force = "SELECT count(*) FROM public.ledger_lockdown()";
    assert_eq!(fetch::<i64>(&mut superuser, in_force).await, 1, "{what}");
}
