//! Rows to be looked for: few values in many combinations, several rows for each time.

use audit_ledger::appender::Appender;
use audit_ledger::chains::signal_audit_ledger::{Direction, Outcome, Record};
use audit_ledger::chains::{Appended, NewRow};
use audit_ledger::clock::Clock;
use ledger_verifier::Value;

use crate::common::builders::{debate, delivery, event, order, order_event, produced, signal};
use crate::common::{TestLedger, soon};

/// Rows of every chain; of producers' records there are more.
pub(crate) const ROWS: u32 = 48;

fn pick<'a>(n: u32, of: &[&'a str]) -> &'a str {
    // Not all columns in step.
    of[(n.wrapping_mul(2_654_435_761) >> 13) as usize % of.len()]
}

/// The row with other texts in these columns.
fn changed(mut row: NewRow, texts: &[(&str, &str)]) -> NewRow {
    for (column, text) in texts {
        let at = row.chain.position(column).expect("a column");
        row.values[at] = Value::Text((*text).to_owned().into());
    }
    row
}

/// The `n`th signal of a producer, and perhaps what became of it.
pub(crate) fn records(n: u32) -> Vec<NewRow> {
    let now = Clock::system().now();
    let mut signal = produced(n);
    pick(n, &["ema", "social", "fusion"]).clone_into(&mut signal.source_module);
    pick(n + 7, &["AAPL", "aapl", "é “x”", "A'\\B"]).clone_into(&mut signal.ticker);
    let directions = [Direction::Long, Direction::Short, Direction::Neutral];
    signal.direction = directions[n as usize % 3];
    signal.conviction = i128::from(n % 11) * 100_000 - i128::from(u8::from(n % 11 == 10));
    signal.signal_type =
        (!n.is_multiple_of(4)).then(|| pick(n, &["crossover", "breakout"]).to_owned());
    signal.execution_id = n.is_multiple_of(5).then(|| format!("x-{}", n % 10));
    signal.acted_upon = n.is_multiple_of(5);
    signal.timestamp = now - chrono::Duration::milliseconds(i64::from(n % 13) * 250);
    let mut outcome = Outcome::new(&signal.source_module, &signal.signal_id, n.is_multiple_of(4));
    outcome.execution_id = n.is_multiple_of(4).then(|| format!("x-{}", n % 10));
    let mut later = outcome.clone();
    later.acted_upon = !outcome.acted_upon;
    let mut records = vec![Record::Signal(signal)];
    if n.is_multiple_of(2) {
        records.push(Record::Outcome(outcome));
    }
    if n.is_multiple_of(6) {
        records.push(Record::Outcome(later));
    }
    let row = |record: Record| record.new_row(pick(n, &["desk", "ema"]), now).unwrap();
    records.into_iter().map(row).collect()
}

fn of_signal(n: u32, signal: &NewRow) -> [NewRow; 2] {
    let correlation_id = signal.correlation_id().unwrap();
    let recorder = ("recorded_by", pick(n + 5, &["council", "desk"]));
    let mut debate = debate(n, correlation_id);
    debate =
        changed(debate, &[("model_name", pick(n, &["phi-4", "timeout", "llama-3.1"])), recorder]);
    let at = |column: &str| debate.chain.position(column).unwrap();
    let (is_timeout, score) = (at("is_timeout"), at("confidence_score"));
    debate.values[is_timeout] = Value::Boolean(n.is_multiple_of(7));
    debate.values[score] = Value::Decimal(i128::from(n % 9) * 1_111);
    let texts = [
        ("symbol", pick(n, &["BTCUSD", "ETHUSD"])),
        ("side", pick(n + 1, &["BUY", "SELL"])),
        ("status", pick(n, &["PENDING", "SUBMITTED", "FILLED"])),
        recorder,
    ];
    [debate, changed(order(n, correlation_id), &texts)]
}

/// Appends them, some in each transaction.
pub(crate) async fn append(appender: &Appender, rows: Vec<NewRow>) {
    // So many at once have one time.
    for rows in rows.chunks(9) {
        for answer in appender.append_all(rows.to_vec(), soon()).await {
            assert!(matches!(answer, Ok(Appended::Recorded(_))), "{answer:?}");
        }
    }
}

/// A ledger with all of that.
pub(crate) async fn ledger_with_variety() -> TestLedger {
    let ledger = TestLedger::new().await;
    let appender = ledger.appender();
    let signal = |n: u32| {
        let texts = [
            ("symbol", pick(n, &["BTCUSD", "ETHUSD", "A'\\B"])),
            ("side", pick(n + 3, &["BUY", "SELL"])),
            ("recorded_by", pick(n + 1, &["tradingview", "desk"])),
        ];
        changed(signal(n).into(), &texts)
    };
    let signals: Vec<NewRow> = (1..=ROWS).map(signal).collect();
    let of_signals = (1..).zip(&signals).flat_map(|(n, signal)| of_signal(n, signal)).collect();
    append(&appender, signals.clone()).await;
    append(&appender, of_signals).await;
    let mut rest = Vec::new();
    for n in 1..=ROWS {
        rest.push(changed(
            order_event(n, (n % 5 + 1).into()),
            &[("recorded_by", pick(n, &["executor", "guardian"]))],
        ));
        rest.extend(records(n));
        let actor = ("actor", pick(n, &["system", "desk", "o'brien"]));
        rest.push(changed(event(n).into(), &[actor]));
        let mut delivery = changed(
            delivery(n).into(),
            &[
                ("source", pick(n, &["tradingview", "desk"])),
                ("reason", pick(n + 2, &["malformed_json", "missing_field", "too_long"])),
            ],
        );
        if n.is_multiple_of(3) {
            let at = delivery.chain.position("duplicate_of").unwrap();
            let named = signals[n as usize % 4].correlation_id().unwrap();
            delivery.values[at] = Value::Uuid(named.into_bytes());
        }
        rest.push(delivery);
    }
    append(&appender, rest).await;
    ledger
}
