//! The service in this process, on a port of its own.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use audit_ledger::appender::{Appender, BatchSettings};
use audit_ledger::clock::Clock;
use audit_ledger::config::RateSettings;
use audit_ledger::http::{self, Checkpoints, RateLimits, Service};
use audit_ledger::store::Database;
use audit_ledger::webhook::Source;
use audit_ledger::webhook::auth::sign;
use audit_ledger::webhook::source::{TRADINGVIEW, WebhookSecret};
use axum_server::Handle;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use ipnet::IpNet;
use reqwest::header::HeaderMap;
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection, Row};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::common::TestLedger;

pub(crate) const SECRET: &str = "a secret of the tests";
pub(crate) const OLD_SECRET: &str = "an older secret of the tests";

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

pub(crate) struct Server {
    pub(crate) clock: Clock,
    pub(crate) address: SocketAddr,
    secret: String,
    client: reqwest::Client,
    handle: Handle<SocketAddr>,
    writer: JoinHandle<()>,
    serving: JoinHandle<std::io::Result<()>>,
    connection: Mutex<PgConnection>,
}

impl Server {
    pub(crate) async fn start(ledger: &TestLedger) -> Self {
        let secrets = [SECRET.to_owned(), OLD_SECRET.to_owned()];
        Self::start_with(ledger, &secrets, Clock::system()).await
    }

    pub(crate) async fn start_with(ledger: &TestLedger, secrets: &[String], clock: Clock) -> Self {
        Self::on(ledger, ledger.app(), secrets, clock).await
    }

    pub(crate) async fn on(
        ledger: &TestLedger,
        database: Database,
        secrets: &[String],
        clock: Clock,
    ) -> Self {
        let secret = |text: &String| WebhookSecret::new(text.as_str().into()).unwrap();
        let source = Source::signed(TRADINGVIEW, secrets.iter().map(secret).collect());
        Self::with(ledger, database, vec![source], Arc::default(), clock).await
    }

    /// With these sources, behind these proxies.
    pub(crate) async fn with(
        ledger: &TestLedger,
        database: Database,
        sources: Vec<Source>,
        trusted_proxies: Arc<[IpNet]>,
        clock: Clock,
    ) -> Self {
        let rates = RateSettings::UNLIMITED;
        Self::limited(ledger, database, sources, trusted_proxies, clock, rates).await
    }

    /// Whose log is signed by these keys, and kept there.
    pub(crate) async fn signed(ledger: &TestLedger, checkpoints: Checkpoints) -> Self {
        let secret = WebhookSecret::new(SECRET.into()).unwrap();
        let sources = vec![Source::signed(TRADINGVIEW, vec![secret])];
        let change = |service| Service { checkpoints, ..service };
        Self::changed(ledger, ledger.app(), sources, Clock::system(), change).await
    }

    /// That refuses those who ask too often.
    pub(crate) async fn limited(
        ledger: &TestLedger,
        database: Database,
        sources: Vec<Source>,
        trusted_proxies: Arc<[IpNet]>,
        clock: Clock,
        rates: RateSettings,
    ) -> Self {
        let limits = RateLimits::new(rates);
        let change = |service| Service { trusted_proxies, limits, ..service };
        Self::changed(ledger, database, sources, clock, change).await
    }

    async fn changed(
        ledger: &TestLedger,
        database: Database,
        sources: Vec<Source>,
        clock: Clock,
        change: impl FnOnce(Service) -> Service,
    ) -> Self {
        let (appender, writer) = Appender::start(database.clone(), BatchSettings::default(), clock);
        let secret = String::from_utf8(sources[0].secrets[0].bytes().to_vec()).unwrap();
        let sources = Service::by_name(sources);
        let service = change(Service { sources, ..Service::new(database, appender, clock) });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let handle = Handle::new();
        let routes = http::router(&service, true);
        Self {
            clock,
            address,
            secret,
            client: reqwest::Client::new(),
            serving: tokio::spawn(http::serve(listener, routes, handle.clone())),
            handle,
            writer,
            connection: Mutex::new(ledger.connect_superuser().await),
        }
    }

    /// Ends the service in good order: what it took is committed.
    pub(crate) async fn stop(self) {
        self.handle.graceful_shutdown(Some(http::DRAIN));
        self.serving.await.unwrap().unwrap();
        drop(self.client);
        self.writer.await.unwrap();
    }

    pub(crate) async fn request(
        &self,
        method: &str,
        path: &str,
        body: &[u8],
        headers: &[(&str, &str)],
    ) -> Answer {
        let url = format!("http://{}{path}", self.address);
        let method = method.parse().unwrap();
        let mut request = self.client.request(method, url).body(body.to_vec());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        Answer {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            body: answer.json().await.unwrap(),
        }
    }

    /// A request to be sent, whose answer may have no end.
    pub(crate) fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.client.get(format!("http://{}{path}", self.address))
    }

    /// The status of an answer whose body may have no end.
    pub(crate) async fn status(&self, method: &str, path: &str, authorization: &str) -> u16 {
        let url = format!("http://{}{path}", self.address);
        let request = self.client.request(method.parse().unwrap(), url);
        let answer = request.header("Authorization", authorization).send().await.unwrap();
        answer.status().as_u16()
    }

    pub(crate) async fn post(&self, path: &str, body: &[u8], headers: &[(&str, &str)]) -> Answer {
        self.request("POST", path, body, headers).await
    }

    pub(crate) async fn post_with(
        &self,
        path: &str,
        body: &[u8],
        headers: &[(String, String)],
    ) -> Answer {
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.post(path, body, &headers).await
    }

    /// Sends a delivery with its right signature.
    pub(crate) async fn deliver(&self, body: &[u8]) -> Answer {
        self.deliver_as("application/json", body).await
    }

    pub(crate) async fn deliver_as(&self, content_type: &str, body: &[u8]) -> Answer {
        let secret = WebhookSecret::new(self.secret.as_str().into()).unwrap();
        let signature = sign(&secret, body);
        let headers =
            [("X-TradingView-Signature", signature.as_str()), ("Content-Type", content_type)];
        self.post("/webhook/tradingview", body, &headers).await
    }

    pub(crate) async fn text(&self, path: &str) -> String {
        self.get(path).send().await.unwrap().text().await.unwrap()
    }

    pub(crate) async fn count(&self, table: &str) -> i64 {
        let query = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        let mut connection = self.connection.lock().await;
        sqlx::query_scalar(query).fetch_one(&mut *connection).await.unwrap()
    }

    /// One row of text columns.
    pub(crate) async fn row(&self, query: &str) -> Vec<String> {
        let query = AssertSqlSafe(query.to_owned());
        let mut connection = self.connection.lock().await;
        let row = sqlx::query(query).fetch_one(&mut *connection).await.unwrap();
        (0..row.len()).map(|at| row.get::<String, _>(at)).collect()
    }

    pub(crate) async fn bytes(&self, query: &str) -> Vec<u8> {
        let query = AssertSqlSafe(query.to_owned());
        let mut connection = self.connection.lock().await;
        sqlx::query_scalar(query).fetch_one(&mut *connection).await.unwrap()
    }
}

/// The signature by its definition, not by the service's function.
pub(crate) fn hmac_hex(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    hex::encode(mac.finalize().into_bytes())
}

pub(crate) fn standard_signature(secret: &str, id: &str, timestamp: i64, body: &[u8]) -> String {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

pub(crate) fn standard_headers(id: &str, timestamp: i64, signature: &str) -> Vec<(String, String)> {
    [
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", timestamp.to_string()),
        ("webhook-signature", signature.to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}
