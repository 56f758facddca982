//! A running `audit-ledger serve` on a private PostgreSQL of its own.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use audit_ledger::store::Database;
use audit_ledger::webhook::auth::sign;
use audit_ledger::webhook::source::WebhookSecret;
use rustix::process::{Pid, Signal, kill_process as signal_process};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_audit-ledger");

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command with these variables and no others of the ledger.
pub(crate) fn audit_ledger(arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    let output = command(&folder).args(arguments).envs(variables.iter().copied()).output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// In a folder without `.env`.
fn command(folder: &TempDir) -> Command {
    let mut command = Command::new(PROGRAM);
    command.current_dir(folder.path()).env_remove("DATABASE_URL").stdin(Stdio::null());
    for (name, _) in std::env::vars() {
        if name.starts_with("LEDGER_") && name != "LEDGER_PG_BINDIR" {
            command.env_remove(name);
        }
    }
    command
}

/// The service's answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

pub(crate) struct Program {
    folder: TempDir,
    pub(crate) address: String,
    /// Variables beside those that every program has.
    variables: Vec<(&'static str, String)>,
    process: Child,
}

impl Program {
    /// On a private PostgreSQL.
    pub(crate) async fn start() -> Self {
        Self::start_with(Vec::new()).await
    }

    /// On a database that others use too.
    pub(crate) async fn start_on(database_url: &str, secret: &str) -> Self {
        Self::start_with(vec![
            ("DATABASE_URL", database_url.to_owned()),
            ("LEDGER_WEBHOOK_SECRET", secret.to_owned()),
        ])
        .await
    }

    pub(crate) async fn start_with(variables: Vec<(&'static str, String)>) -> Self {
        let folder = tempfile::Builder::new().prefix("serve").tempdir().unwrap();
        // The server's own user must reach its folder, also where the tests run as root.
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), everybody).unwrap();
        // A port that was free a moment ago; nothing else here binds to explicit ones.
        let address =
            std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let process = Self::spawn(&folder, &address, &variables);
        let mut program = Self { folder, address, variables, process };
        program.wait_until_ready().await;
        program
    }

    fn spawn(folder: &TempDir, address: &str, variables: &[(&str, String)]) -> Child {
        let file = |name| {
            let path = folder.path().join(name);
            File::options().create(true).append(true).open(path).unwrap()
        };
        command(folder)
            .arg("serve")
            .env("LEDGER_LISTEN", address)
            .env("LEDGER_DATA_DIR", folder.path().join("data"))
            // All load of a test comes from one address.
            .env("LEDGER_RATE_LIMIT_ADDRESS_PER_S", "0")
            // A test says when the ledger is checked.
            .env("LEDGER_VERIFY_INTERVAL_S", "0")
            .envs(variables.iter().cloned())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn()
            .unwrap()
    }

    pub(crate) async fn start_again(&mut self) {
        self.process = Self::spawn(&self.folder, &self.address, &self.variables);
        self.wait_until_ready().await;
    }

    async fn wait_until_ready(&mut self) {
        let limit = Instant::now() + Duration::from_secs(30);
        let ready = async || {
            let answer = reqwest::get(format!("http://{}/readyz", self.address)).await;
            answer.is_ok_and(|answer| answer.status() == 200)
        };
        while !ready().await {
            let ended = self.process.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}:\n{}", self.stderr());
            assert!(Instant::now() < limit, "not ready:\n{}", self.stderr());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Runs another command on the same ledger.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        let data_dir = self.data_dir();
        let variables =
            [("LEDGER_DATA_DIR", data_dir.to_str().unwrap()), ("LEDGER_LISTEN", "127.0.0.1:0")];
        audit_ledger(arguments, &variables)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn stderr(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stderr")).unwrap()
    }

    pub(crate) fn postgres_log(&self) -> String {
        std::fs::read_to_string(self.data_dir().join("postgres.log")).unwrap()
    }

    pub(crate) fn secret(&self) -> String {
        let set = self.variables.iter().find(|(name, _)| *name == "LEDGER_WEBHOOK_SECRET");
        if let Some((_, secret)) = set {
            return secret.clone();
        }
        std::fs::read_to_string(self.data_dir().join("webhook.secret")).unwrap()
    }

    /// What the service printed at its starts.
    pub(crate) fn stdout(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stdout")).unwrap()
    }

    /// The line that the service printed at its start.
    pub(crate) fn printed_curl(&self) -> String {
        let printed = self.stdout();
        let start = printed.find("curl ").expect(&printed);
        printed[start..].split("\n\n").next().unwrap().to_owned()
    }

    /// The server's process, if it lives.
    pub(crate) fn postmaster(&self) -> Option<i32> {
        let file = self.data_dir().join("postgres/postmaster.pid");
        let pid: i32 = std::fs::read_to_string(file).ok()?.lines().next()?.parse().ok()?;
        let alive = rustix::process::test_kill_process(Pid::from_raw(pid)?).is_ok();
        alive.then_some(pid)
    }

    /// As Ctrl-C does.
    pub(crate) fn interrupt(&mut self) -> ExitStatus {
        signal_process(Pid::from_child(&self.process), Signal::INT).unwrap();
        let ended = self.process.wait().unwrap();
        assert!(!self.stderr().contains("did not come to an end"), "{}", self.stderr());
        ended
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub(crate) fn stop(mut self) {
        let ended = self.interrupt();
        assert!(ended.success(), "{ended:?}\n{}", self.stderr());
    }

    #[track_caller]
    pub(crate) fn wait_for(&self, condition: impl Fn(&Self) -> bool) {
        let limit = Instant::now() + Duration::from_secs(20);
        while !condition(self) {
            assert!(Instant::now() < limit, "waited in vain:\n{}", self.stderr());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn url(&self, role: &str) -> String {
        let url = self.run(&["db", "url", "--role", role]);
        assert_eq!(url.code, 0, "{url:?}");
        url.stdout.trim().to_owned()
    }

    pub(crate) fn app(&self) -> Database {
        Database::from_url(&self.url("app")).unwrap()
    }

    pub(crate) async fn superuser(&self) -> PgConnection {
        PgConnection::connect(&self.url("superuser")).await.unwrap()
    }

    pub(crate) async fn query(&self, query: &str) -> i64 {
        let query = AssertSqlSafe(query.to_owned());
        sqlx::query_scalar(query).fetch_one(&mut self.superuser().await).await.unwrap()
    }

    pub(crate) async fn signal_ids(&self) -> Vec<String> {
        sqlx::query_scalar("SELECT signal_id FROM signals")
            .fetch_all(&mut self.superuser().await)
            .await
            .unwrap()
    }

    /// Asks with an API key.
    pub(crate) async fn get(&self, path: &str, key: &str) -> Answer {
        let request = reqwest::Client::new().get(format!("http://{}{path}", self.address));
        let answer = request.bearer_auth(key).send().await.unwrap();
        Answer { status: answer.status().as_u16(), body: answer.json().await.unwrap() }
    }

    /// An answer to be read piece by piece.
    pub(crate) async fn stream(&self, path: &str, key: &str) -> reqwest::Response {
        let request = reqwest::Client::new().get(format!("http://{}{path}", self.address));
        let answer = request.bearer_auth(key.trim()).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        answer
    }

    /// Posts nothing, with an API key.
    pub(crate) async fn post_with_key(&self, path: &str, key: &str) -> Answer {
        let request = reqwest::Client::new().post(format!("http://{}{path}", self.address));
        let answer = request.bearer_auth(key.trim()).send().await.unwrap();
        Answer { status: answer.status().as_u16(), body: answer.json().await.unwrap() }
    }

    /// Sets a variable for the next start.
    pub(crate) fn set(&mut self, name: &'static str, value: &str) {
        self.variables.retain(|(known, _)| *known != name);
        self.variables.push((name, value.to_owned()));
    }

    pub(crate) fn sender(&self) -> Sender {
        let secret = WebhookSecret::new(self.secret().into()).unwrap();
        let client = reqwest::Client::new();
        Sender { client, address: self.address.clone(), secret: std::sync::Arc::new(secret) }
    }

    pub(crate) async fn post(&self, path: &str, body: &[u8], signature: Option<&str>) -> Answer {
        self.sender().post(path, body, signature).await.unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        if let Some(postmaster) = self.postmaster() {
            kill_process(postmaster);
        }
    }
}

/// Sends signed deliveries.
#[derive(Clone)]
pub(crate) struct Sender {
    client: reqwest::Client,
    address: String,
    secret: std::sync::Arc<WebhookSecret>,
}

impl Sender {
    pub(crate) async fn send(&self, signal_id: &str) -> reqwest::Result<Answer> {
        let body = format!(
            r#"{{"signal_id":"{signal_id}","symbol":"BTCUSD","side":"BUY","price":"1.5","quantity":1}}"#
        );
        let signature = sign(&self.secret, body.as_bytes());
        self.post("/webhook/tradingview", body.as_bytes(), Some(&signature)).await
    }

    async fn post(
        &self,
        path: &str,
        body: &[u8],
        signature: Option<&str>,
    ) -> reqwest::Result<Answer> {
        let mut request =
            self.client.post(format!("http://{}{path}", self.address)).body(body.to_vec());
        if let Some(signature) = signature {
            request = request.header("X-TradingView-Signature", signature);
        }
        let answer = request.send().await?;
        Ok(Answer { status: answer.status().as_u16(), body: answer.json().await? })
    }
}

pub(crate) async fn send(program: &Program, signal_id: &str) -> Answer {
    program.sender().send(signal_id).await.unwrap()
}

/// SIGKILL.
pub(crate) fn kill_process(pid: i32) {
    let _ = signal_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
}

/// Runs statements as the superuser.
pub(crate) async fn sql(program: &Program, statements: &str) {
    let statements = AssertSqlSafe(statements.to_owned());
    sqlx::raw_sql(statements).execute(&mut program.superuser().await).await.unwrap();
}
