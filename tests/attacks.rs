//! A table of attacks: who tries what against the ledger, and what comes of it. Every cell is run
//! for real, on a database with rows in every table, and against every table that it is about.

mod common;

#[path = "attacks/driver.rs"]
mod driver;
#[path = "attacks/over_http.rs"]
mod over_http;
#[path = "http/server.rs"]
mod server;
#[path = "attacks/statements.rs"]
mod statements;

use ledger_verifier::FindingKind;

/// Who attacks, in the order of the table's columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attacker {
    /// Over HTTP, without a key.
    Anonymous,
    /// Over HTTP, with a key of scope ingest.
    IngestKey,
    /// `app_trading` in psql.
    Service,
    /// `ledger_auditor` in psql.
    Auditor,
    /// `ledger_migrator`, after SET ROLE `ledger_owner`.
    Owner,
    /// A superuser who leaves the guards as they are.
    Superuser,
    /// A superuser who first switches every trigger off and drops every constraint.
    Disarmed,
    /// A superuser who switches the triggers off, keeps to the constraints, hashes again what he
    /// changes, and switches everything on again in the same transaction.
    Covered,
}

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Update,
    UpdateOfNoRow,
    UpdateOfKey,
    DeleteFirst,
    DeleteLast,
    DeleteAll,
    DeleteOfNoRow,
    Truncate,
    TruncateCascade,
    Drop,
    Alter,
    DisableTriggers,
    ReplicaRole,
    Grant,
    Insert,
    InsertWithId,
    InsertWithTime,
    InsertWithHash,
    InsertWithPrevHash,
    Copy,
    InsertWhileLocked,
    InsertIntoLog,
    RemoveLatest,
    ReplaceFunction,
    DisableEventTrigger,
    OpenWindow,
    ForgeManifest,
    ForgeLift,
    ForgeAcknowledgement,
    ForgeRefusals,
    ForgeKey,
    DeleteMigrations,
}

/// Which tables it is tried against. The list of tables is the catalog's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    Chains,
    /// The chains that a lockdown stops, and those that it does not.
    Business,
    Open,
    Log,
    /// What signed notes are compared with.
    Signed,
    /// All other tables whose rows never change.
    Records,
    /// Chains, log, what is signed, and records.
    Guarded,
    /// Those, and what has no guards: the locks and the list of migrations.
    Every,
    Once,
}

/// What comes of it.
#[derive(Clone, Copy, Debug)]
enum Cell {
    /// This status and code. A table that has no such route answers 405, MTH-001.
    Http(u16, &'static str),
    /// This SQLSTATE.
    Refused(&'static str),
    /// The code that the design gives to the operation and the table.
    Guarded,
    /// It succeeds; the next check reports this.
    Found(FindingKind),
    /// It succeeds, and no check tells; why.
    Unseen(&'static str),
    /// It succeeds and does no harm, or nothing at all; why.
    Allowed(&'static str),
    /// There is no such attack, or it is that of the row or column beside it.
    None,
}

use Action as A;
use Cell::{Allowed, Refused, Unseen};

const ____: Cell = Cell::None;
const KEY: Cell = Cell::Http(401, "SEC-005");
const METH: Cell = Cell::Http(405, "MTH-001");
const FIELD: Cell = Cell::Http(422, "VAL-002");
const LOCKED: Cell = Cell::Http(423, "AUD-009");
const RIGHT: Cell = Refused("42501");
const GUARD: Cell = Cell::Guarded;
const DDL: Cell = Refused("AU010");
const AU009: Cell = Refused("AU009");
const AU011: Cell = Refused("AU011");
const HASH: Cell = Refused("23514");
const CONT: Cell = Cell::Found(FindingKind::Content);
const LINK: Cell = Cell::Found(FindingKind::Link);
const GAP: Cell = Cell::Found(FindingKind::Gap);
const LOG: Cell = Cell::Found(FindingKind::LogMismatch);
const TIME: Cell = Cell::Found(FindingKind::TimeReversal);
const FORK: Cell = Cell::Found(FindingKind::Forked);
const DRIFT: Cell = Cell::Found(FindingKind::GuardDrift);
/// What only a checkpoint that is held outside the database can show.
const OUT1: Cell = Unseen("what is left adds up; a checkpoint held outside says that it was more");
const OUT2: Cell = Unseen("no hash covers these tables, only their guards, which are back");
const GOOD: Cell = Unseen("a row that is right in every way, written past the lockdown");
const APPD: Cell = Allowed("who may append appends, in the one way there is");
const NONE: Cell = Allowed("nothing is changed");
const WARN: Cell = Allowed("PostgreSQL only warns, and grants nothing");
const OPEN: Cell = Allowed("what happens in a lockdown is recorded");
const OVER: Cell = Allowed("the window ends with the transaction that opened it");
const MAKE: Cell = Allowed("the owner makes keys, and a trigger records each");
const MIGR: Cell = Allowed("the service says at its start which migration is missing");

#[rustfmt::skip] // A table.
static TABLE: &[(Action, On, [Cell; 8])] = &[
    //                                     anonymous, ingest key, app_trading, ledger_auditor,
    //                                     ledger_owner, superuser, guards off, tracks covered
    (A::Update,              On::Chains,   [METH, METH,  RIGHT, RIGHT, RIGHT, GUARD, CONT,  LOG  ]),
    (A::Update,              On::Log,      [METH, METH,  RIGHT, RIGHT, RIGHT, GUARD, LOG,   LOG  ]),
    (A::Update,              On::Signed,   [METH, METH,  RIGHT, RIGHT, RIGHT, GUARD, FORK,  FORK ]),
    (A::Update,              On::Records,  [METH, METH,  RIGHT, RIGHT, RIGHT, GUARD, DRIFT, OUT2 ]),
    (A::UpdateOfNoRow,       On::Guarded,  [____, ____,  RIGHT, RIGHT, RIGHT, GUARD, DRIFT, NONE ]),
    (A::UpdateOfKey,         On::Chains,   [____, ____,  RIGHT, RIGHT, GUARD, GUARD, DRIFT, NONE ]),
    (A::DeleteFirst,         On::Chains,   [METH, METH,  RIGHT, RIGHT, RIGHT, GUARD, GAP,   GAP  ]),
    (A::DeleteLast,          On::Chains,   [METH, METH,  RIGHT, RIGHT, RIGHT, GUARD, LOG,   LOG  ]),
    (A::DeleteLast,          On::Log,      [METH, METH,  RIGHT, RIGHT, RIGHT, GUARD, LOG,   LOG  ]),
    (A::DeleteAll,           On::Chains,   [METH, METH,  RIGHT, RIGHT, RIGHT, GUARD, LOG,   LOG  ]),
    (A::DeleteAll,           On::Log,      [METH, METH,  RIGHT, RIGHT, RIGHT, GUARD, LOG,   LOG  ]),
    (A::DeleteAll,           On::Signed,   [METH, METH,  RIGHT, RIGHT, RIGHT, GUARD, DRIFT, OUT1 ]),
    (A::DeleteAll,           On::Records,  [METH, METH,  RIGHT, RIGHT, RIGHT, GUARD, DRIFT, OUT2 ]),
    (A::DeleteOfNoRow,       On::Guarded,  [____, ____,  RIGHT, RIGHT, RIGHT, GUARD, DRIFT, NONE ]),
    (A::Truncate,            On::Guarded,  [METH, METH,  RIGHT, RIGHT, RIGHT, GUARD, ____,  ____ ]),
    (A::TruncateCascade,     On::Chains,   [____, ____,  RIGHT, RIGHT, RIGHT, GUARD, LOG,   LOG  ]),
    (A::TruncateCascade,     On::Log,      [____, ____,  RIGHT, RIGHT, RIGHT, GUARD, LOG,   LOG  ]),
    (A::TruncateCascade,     On::Signed,   [____, ____,  RIGHT, RIGHT, RIGHT, GUARD, DRIFT, OUT1 ]),
    (A::TruncateCascade,     On::Records,  [____, ____,  RIGHT, RIGHT, RIGHT, GUARD, DRIFT, OUT2 ]),
    (A::Drop,                On::Every,    [____, ____,  RIGHT, RIGHT, DDL,   DDL,   ____,  DRIFT]),
    (A::Alter,               On::Every,    [____, ____,  RIGHT, RIGHT, DDL,   DDL,   DRIFT, DRIFT]),
    (A::DisableTriggers,     On::Guarded,  [____, ____,  RIGHT, RIGHT, DDL,   DDL,   DRIFT, ____ ]),
    (A::ReplicaRole,         On::Guarded,  [____, ____,  RIGHT, RIGHT, RIGHT, GUARD, ____,  ____ ]),
    (A::Grant,               On::Guarded,  [____, ____,  WARN,  WARN,  DDL,   DDL,   DRIFT, DRIFT]),
    (A::Insert,              On::Chains,   [KEY,  ____,  APPD,  RIGHT, APPD,  APPD,  LOG,   ____ ]),
    (A::InsertWithId,        On::Chains,   [KEY,  FIELD, AU011, RIGHT, AU011, AU011, GAP,   GAP  ]),
    (A::InsertWithTime,      On::Chains,   [KEY,  FIELD, AU011, RIGHT, AU011, AU011, TIME,  TIME ]),
    (A::InsertWithHash,      On::Chains,   [KEY,  FIELD, HASH,  RIGHT, HASH,  HASH,  CONT,  HASH ]),
    (A::InsertWithPrevHash,  On::Chains,   [KEY,  FIELD, AU011, RIGHT, AU011, AU011, LINK,  LINK ]),
    (A::Copy,                On::Chains,   [____, ____,  AU011, RIGHT, AU011, AU011, LINK,  LINK ]),
    (A::InsertWhileLocked,   On::Business, [KEY,  LOCKED,AU009, RIGHT, AU009, AU009, LOG,   GOOD ]),
    (A::InsertWhileLocked,   On::Open,     [METH, METH,  OPEN,  RIGHT, OPEN,  OPEN,  ____,  ____ ]),
    (A::InsertIntoLog,       On::Once,     [METH, METH,  RIGHT, RIGHT, AU011, AU011, LOG,   LOG  ]),
    (A::RemoveLatest,        On::Once,     [____, ____,  RIGHT, RIGHT, RIGHT, GUARD, DRIFT, OUT1 ]),
    (A::ReplaceFunction,     On::Once,     [____, ____,  RIGHT, RIGHT, DDL,   DDL,   DRIFT, DRIFT]),
    (A::DisableEventTrigger, On::Once,     [____, ____,  RIGHT, RIGHT, RIGHT, DRIFT, DRIFT, ____ ]),
    (A::OpenWindow,          On::Once,     [____, ____,  RIGHT, RIGHT, RIGHT, OVER,  ____,  ____ ]),
    (A::ForgeManifest,       On::Once,     [____, ____,  RIGHT, RIGHT, RIGHT, DRIFT, DRIFT, DRIFT]),
    (A::ForgeLift,           On::Once,     [____, ____,  RIGHT, RIGHT, AU011, AU011, DRIFT, OUT2 ]),
    (A::ForgeAcknowledgement,On::Once,     [____, ____,  RIGHT, RIGHT, AU011, AU011, DRIFT, OUT2 ]),
    (A::ForgeRefusals,       On::Once,     [____, ____,  RIGHT, RIGHT, AU011, AU011, DRIFT, OUT2 ]),
    (A::ForgeKey,            On::Once,     [____, ____,  RIGHT, RIGHT, MAKE,  MAKE,  ____,  ____ ]),
    (A::DeleteMigrations,    On::Once,     [____, ____,  RIGHT, RIGHT, MIGR,  MIGR,  ____,  ____ ]),
];

/// The cells of one attacker that are there.
fn cells(attacker: Attacker) -> impl Iterator<Item = (Action, On, Cell)> {
    let cells =
        TABLE.iter().map(move |(action, on, cells)| (*action, *on, cells[attacker as usize]));
    cells.filter(|(_, _, cell)| !matches!(cell, Cell::None))
}

#[tokio::test]
async fn the_services_login_changes_nothing() {
    driver::run_refused(Attacker::Service).await;
}

#[tokio::test]
async fn the_auditors_login_changes_nothing() {
    driver::run_refused(Attacker::Auditor).await;
}

#[tokio::test]
async fn the_owner_changes_nothing() {
    driver::run_refused(Attacker::Owner).await;
}

#[tokio::test]
async fn a_superuser_changes_nothing_before_he_switches_guards_off() {
    driver::run_refused(Attacker::Superuser).await;
}

#[tokio::test]
async fn what_a_superuser_may_is_found() {
    driver::run_found(Attacker::Superuser, |_| true).await;
}

#[tokio::test]
async fn what_is_changed_behind_switched_off_guards_is_found() {
    driver::run_found(Attacker::Disarmed, |on| on == On::Chains).await;
}

#[tokio::test]
async fn what_is_changed_in_other_tables_behind_switched_off_guards_is_found() {
    driver::run_found(Attacker::Disarmed, |on| on != On::Chains).await;
}

#[tokio::test]
async fn a_change_of_a_chain_is_found_also_where_every_guard_is_back() {
    driver::run_found(Attacker::Covered, |on| on == On::Chains).await;
}

#[tokio::test]
async fn what_is_found_of_other_changes_where_every_guard_is_back() {
    driver::run_found(Attacker::Covered, |on| on != On::Chains).await;
}

#[tokio::test]
async fn nobody_changes_anything_over_http() {
    over_http::run_table().await;
}
