//! Values that would like to be SQL, under a setting in which a backslash is none.

use audit_ledger::chains::signal_audit_ledger::{Direction, ProducedSignal, Record};
use audit_ledger::clock::Clock;
use ledger_verifier::Value;
use ledger_verifier::chain::{SECURITY_EVENTS, SIGNAL_AUDIT_LEDGER};

use crate::common::builders::event;
use crate::common::{TestLedger, fetch, run, soon};
use crate::naive::Condition;
use crate::{Desk, query};

/// Each has at most the 64 characters of a `signal_id`.
const HOSTILE: [&str; 27] = [
    "'",
    "''",
    "\\",
    "\\'",
    "\\\\'",
    "\\x41",
    "\\u0041",
    "A",
    "E'",
    "'; DROP TABLE signals; --",
    "\\'; DROP TABLE signals; --",
    "' OR 'a'='a",
    "') OR true --",
    "' UNION SELECT 1 --",
    "/* */",
    "--",
    "$$; SELECT 1 $$",
    "$1",
    "%",
    "_",
    "IS_SIGNAL",
    "SPELT",
    "LATENCY ELAPSED 'IS_SIGNAL'",
    "{condition}",
    "é\u{301}",
    "\u{202e}\u{200b}🚀\u{10ffff}",
    " \t\n\r\u{1}\u{7f} ",
];

#[tokio::test]
async fn a_hostile_value_is_a_value_and_nothing_else() {
    let ledger = TestLedger::new().await;
    let set = format!("ALTER DATABASE {} SET standard_conforming_strings = off", ledger.name());
    run(&mut ledger.connect_superuser().await, &set).await;
    let off = "SELECT current_setting('standard_conforming_strings')";
    assert_eq!(fetch::<String>(&mut ledger.connect_app().await, off).await, "off");
    let appender = ledger.appender();
    let now = Clock::system().now();
    for text in HOSTILE {
        let mut signal = ProducedSignal::new(text, text, "A", Direction::Long, now);
        signal.signal_type = Some(text.to_owned());
        signal.execution_id = Some(text.to_owned());
        let row = Record::Signal(signal).new_row(text, now).unwrap();
        appender.append(row, soon()).await.unwrap();
        let mut event = event(1);
        event.actor = text.to_owned();
        appender.append(event, soon()).await.unwrap();
    }
    drop(appender);
    let desk = Desk::open(ledger).await;
    let records = desk.rows(&SIGNAL_AUDIT_LEDGER).await;
    let events = desk.rows(&SECURITY_EVENTS).await;
    let of = [
        (&SIGNAL_AUDIT_LEDGER, &records, "signal_id"),
        (&SIGNAL_AUDIT_LEDGER, &records, "source_module"),
        (&SIGNAL_AUDIT_LEDGER, &records, "signal_type"),
        (&SIGNAL_AUDIT_LEDGER, &records, "execution_id"),
        (&SIGNAL_AUDIT_LEDGER, &records, "recorded_by"),
        (&SECURITY_EVENTS, &events, "actor"),
    ];
    for (chain, rows, parameter) in of {
        for text in HOSTILE {
            let condition = Condition::new(chain, parameter, Value::Text(text.to_owned().into()));
            let conditions = [condition];
            let found = desk.compare(chain, rows, &conditions, false, 10).await;
            assert_eq!(found, 1, "{parameter} {text}");
            let path =
                format!("/v1/{}/stats?group_by={parameter}{}", chain.name, query(&conditions));
            let groups = desk.read(&path).await["groups"].clone();
            assert_eq!(groups.as_array().unwrap().len(), 1, "{path}");
            assert_eq!((&groups[0]["group"], &groups[0]["count"]), (&text.into(), &1.into()));
        }
        // Longer than any row of the column, in quotes and without.
        for text in ["'".repeat(5_000), "\\".repeat(5_001), "x".repeat(5_000)] {
            let condition = Condition::new(chain, parameter, Value::Text(text.into()));
            assert_eq!(desk.compare(chain, rows, &[condition], true, 10).await, 0);
        }
    }
    // By SIGNAL and OUTCOME, too, and by times and numbers.
    let all = "/v1/signal_audit_ledger?record_type=SIGNAL&direction=LONG&from=2026-01-01T00:00:00Z\
               &max_conviction=0&acted_upon=false&limit=1000";
    assert_eq!(desk.read(all).await["items"].as_array().unwrap().len(), HOSTILE.len());
    assert_eq!(desk.close().await, 2 * HOSTILE.len() + 1);
}
