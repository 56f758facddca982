//! Rows as they leave the ledger: exports, the live feed, and the replay, over real HTTP.

mod common;

#[path = "streams/break_off.rs"]
mod break_off;
#[path = "common/desk.rs"]
mod desk;
#[path = "streams/downloads.rs"]
mod downloads;
#[path = "streams/export.rs"]
mod export;
#[path = "streams/feed.rs"]
mod feed;
#[path = "streams/replay.rs"]
mod replay;
#[path = "http/server.rs"]
mod server;

use audit_ledger::chains::signal_audit_ledger::{Direction, Outcome, ProducedSignal, Record};
use audit_ledger::chains::{IN_LEDGER, NewRow};
use audit_ledger::clock::Clock;
use common::builders::{delivery, event, kill_switch, signal};
use common::soon;
use desk::Desk;
use serde_json::Value;

impl Desk {
    fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.server.get(path).header("Authorization", &self.key)
    }

    /// The text of an answer that must be there, to its end.
    async fn text(&self, path: &str) -> String {
        let answer = self.get(path).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        answer.text().await.unwrap()
    }

    /// The lines of one, as JSON.
    async fn lines(&self, path: &str) -> Vec<Value> {
        json_lines(&self.text(path).await)
    }

    async fn append(&self, rows: Vec<NewRow>) {
        for appended in self.ledger.appender().append_all(rows, soon()).await {
            appended.unwrap();
        }
    }

    /// Every row that meets a filter, by the pages of its list, the oldest first.
    async fn listed(&self, chain: &str, filter: &str) -> Vec<Value> {
        let mut all = Vec::new();
        let mut cursor = String::new();
        loop {
            let path = format!("/v1/{chain}?order=asc&limit=7{filter}{cursor}");
            let page = self.read(&path).await;
            all.extend(page["items"].as_array().unwrap().iter().cloned());
            let Some(next) = page["next_cursor"].as_str() else { return all };
            cursor = format!("&cursor={next}");
        }
    }

    /// Every row of the ledger, in its order.
    async fn ledger_order(&self) -> Vec<Value> {
        let mut all = Vec::new();
        for chain in IN_LEDGER {
            all.extend(self.listed(chain.name, "").await);
        }
        all.sort_by_key(|row| row["leaf_index"].as_u64());
        all
    }
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// The `n`th signal of a producer, with all that is awkward in a table.
fn produced(n: u32) -> NewRow {
    let source = ["ema", "social", "fusion"][n as usize % 3];
    let ticker = ["AAPL", "=1+1", "@SUM(A1)", "BRK.B", "-EUR", "\"Q\",\r\n"][n as usize % 6];
    let direction = [Direction::Long, Direction::Short, Direction::Neutral][n as usize % 3];
    let signal = ProducedSignal {
        signal_type: n.is_multiple_of(2).then(|| format!("+type {}", n % 5)),
        conviction: i128::from(n % 101) * 10_000,
        confidence: n.is_multiple_of(4).then_some(9_100),
        price: n.is_multiple_of(3).then_some(-1_234_500_000_000 - i128::from(n)),
        payload_json: format!(r#"{{"n": {n}, "text": "a, \"b\"\n… 'c'"}}"#),
        ..ProducedSignal::new(source, &format!("s-{n}"), ticker, direction, Clock::system().now())
    };
    Record::Signal(signal).new_row("producer", Clock::system().now()).unwrap()
}

/// What became of the `n`th signal.
fn outcome(n: u32) -> NewRow {
    let source = ["ema", "social", "fusion"][n as usize % 3];
    let outcome = Outcome {
        execution_id: Some(format!("x-{n}")),
        ..Outcome::new(source, &format!("s-{n}"), !n.is_multiple_of(3))
    };
    Record::Outcome(outcome).new_row("executor", Clock::system().now()).unwrap()
}

/// Rows of several chains, mixed.
fn mixed(from: u32, to: u32) -> Vec<NewRow> {
    let mut rows = Vec::new();
    for n in from..to {
        rows.push(produced(n));
        match n % 4 {
            0 => rows.push(outcome(n)),
            1 => rows.push(signal(n).into()),
            2 => rows.push(event(n).into()),
            _ => {
                rows.push(kill_switch(n, None));
                rows.push(delivery(n).into());
            }
        }
    }
    rows
}
