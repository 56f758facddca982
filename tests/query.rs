//! Lists and statistics against a scan of all rows in Rust: whatever is asked for, in whatever order
//! and pages, while rows are appended, and however hostile a value is.

mod common;

#[path = "query/chains.rs"]
mod chains;
#[path = "query/filters.rs"]
mod filters;
#[path = "query/hostile.rs"]
mod hostile;
#[path = "query/naive.rs"]
mod naive;
#[path = "query/pages.rs"]
mod pages;
#[path = "query/rows.rs"]
mod rows;
#[path = "http/server.rs"]
mod server;
#[path = "query/statistics.rs"]
mod statistics;

use audit_ledger::keys::Scope;
use common::TestLedger;
use common::builders::api_key;
use common::read_back::{ReadRow, read_chain};
use ledger_verifier::Chain;
use naive::Condition;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value as Json;
use server::{Answer, Server};

/// A service with rows in every chain, and the key of somebody who may read.
struct Desk {
    ledger: TestLedger,
    server: Server,
    key: String,
}

impl Desk {
    async fn open(ledger: TestLedger) -> Self {
        let (_, key) = api_key(&ledger.owner(), "desk", &[Scope::Read]).await;
        Self { server: Server::start(&ledger).await, ledger, key }
    }

    async fn close(self) -> usize {
        self.server.stop().await;
        self.ledger.finish().await
    }

    async fn get(&self, path: &str) -> Answer {
        self.server.request("GET", path, b"", &[("Authorization", &self.key)]).await
    }

    async fn read(&self, path: &str) -> Json {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.body
    }

    /// Every row of a chain, read by the harness.
    async fn rows(&self, chain: &Chain) -> Vec<ReadRow> {
        read_chain(&mut self.ledger.connect_superuser().await, chain).await
    }

    /// Follows a list to its end; the ids in the order of the pages.
    async fn follow(
        &self,
        chain: &Chain,
        query: &str,
        limit: usize,
        mut meanwhile: impl AsyncFnMut(),
    ) -> Vec<i64> {
        let first = format!("/v1/{}?limit={limit}{query}", chain.name);
        let mut next = first.clone();
        let mut all = Vec::new();
        loop {
            let page = self.get(&next).await;
            assert_eq!(page.status, 200, "{next}: {page:?}");
            let items = page.body["items"].as_array().unwrap();
            assert!(items.len() <= limit, "{next}");
            all.extend(items.iter().map(|item| item["id"].as_i64().unwrap()));
            let Some(cursor) = page.body["next_cursor"].as_str() else {
                assert!(!page.headers.contains_key("link"));
                return all;
            };
            assert_eq!(items.len(), limit, "{next}: only the last page is short");
            next = format!("{first}&cursor={cursor}");
            assert_eq!(page.headers["link"], format!("<{next}>; rel=\"next\""));
            meanwhile().await;
        }
    }

    /// Asks for the rows that meet the conditions, and compares with the scan.
    async fn compare(
        &self,
        chain: &'static Chain,
        rows: &[ReadRow],
        conditions: &[Condition],
        ascending: bool,
        limit: usize,
    ) -> usize {
        let mut expected = naive::ids(chain, rows, conditions);
        // The newest first is what one gets who does not say.
        let order = if ascending { "&order=asc" } else { "" };
        if !ascending {
            expected.reverse();
        }
        let query = query(conditions) + order;
        let found = self.follow(chain, &query, limit, async || {}).await;
        assert_eq!(found, expected, "{} {query}", chain.name);
        expected.len()
    }
}

/// The conditions as they stand in a URL.
fn query(conditions: &[Condition]) -> String {
    let spelt = |condition: &Condition| {
        let text = utf8_percent_encode(&condition.text, NON_ALPHANUMERIC);
        format!("&{}={text}", condition.parameter)
    };
    conditions.iter().map(spelt).collect()
}
