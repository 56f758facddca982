//! A service in this process, and somebody who asks it. Each test binary adds what its routes need.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use audit_ledger::keys::Scope;
use serde_json::Value;

use crate::common::TestLedger;
use crate::common::builders::api_key;
use crate::server::{Answer, Server};

pub(crate) struct Desk {
    pub(crate) ledger: TestLedger,
    pub(crate) server: Server,
    /// The `Authorization` of who asks.
    pub(crate) key: String,
}

impl Desk {
    /// On a ledger of its own, for somebody who may do everything.
    pub(crate) async fn open() -> Self {
        let ledger = TestLedger::new().await;
        let (_, key) = api_key(&ledger.owner(), "desk", &Scope::ALL).await;
        Self { server: Server::start(&ledger).await, ledger, key }
    }

    /// The last step: what the harness does, and how many rows there are beside the key's event.
    pub(crate) async fn close(self) -> usize {
        self.server.stop().await;
        self.ledger.finish().await - 1
    }

    /// The last step of a test that tampers.
    pub(crate) async fn close_tampered(self) {
        self.server.stop().await;
        self.ledger.finish_tampered().await;
    }

    pub(crate) async fn ask(&self, path: &str) -> Answer {
        self.server.request("GET", path, b"", &[("Authorization", &self.key)]).await
    }

    /// The body of an answer that must be there.
    pub(crate) async fn read(&self, path: &str) -> Value {
        let answer = self.ask(path).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.body
    }

    pub(crate) async fn post_to(
        &self,
        path: &str,
        body: &[u8],
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut all = vec![("Authorization", self.key.as_str())];
        all.extend(headers);
        self.server.post(path, body, &all).await
    }
}
