//! The real program on a ledger of its own, with keys for everybody who looks at the dashboard, and
//! the specs that are run on it.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use audit_ledger::keys::Scope;
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, PgConnection, Row, ValueRef};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, Command};
use tokio::time::timeout;

use crate::common::TestLedger;
use crate::common::builders::api_key;
use crate::common::checkpoints::{ORIGIN, key_lines};
use crate::program::Program;

/// Where specs are, and what they use.
pub(crate) const TESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dashboard");
const SECRET: &str = "a secret of the dashboard's tests";
/// How long a spec may take.
const LIMIT: Duration = Duration::from_mins(5);
/// How a spec's line begins that asks for something.
const ASKS: &str = "@harness ";

/// Who there is, and what their keys are for.
const HOLDERS: [(&str, &[Scope]); 5] = [
    ("admin", &Scope::ALL),
    ("admin2", &Scope::ALL),
    ("reader", &[Scope::Read]),
    ("exporter", &[Scope::Read, Scope::Export]),
    ("ingest", &[Scope::Ingest]),
];

/// What a spec asks for that cannot be done over HTTP.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
enum Request {
    Tamper { sql: String },
    TamperAndRearm { table: String, sql: String },
    Psql { sql: String },
    Stop,
    Start,
    Restart,
}

/// The ledger, and the service on it.
pub(crate) struct Scene {
    ledger: TestLedger,
    program: Program,
    is_running: bool,
    keys: BTreeMap<&'static str, String>,
    /// The anchor: a folder.
    _anchor: TempDir,
}

impl Scene {
    /// With a service that signs a checkpoint every second, keeps it in a folder, and checks the
    /// ledger when it is asked to.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With these settings, too.
    pub(crate) async fn start_with(settings: &[(&'static str, &str)]) -> Self {
        let ledger = TestLedger::new().await;
        let mut keys = BTreeMap::new();
        for (name, scopes) in HOLDERS {
            let (_, authorization) = api_key(&ledger.owner(), name, scopes).await;
            keys.insert(name, authorization.replace("Bearer ", ""));
        }
        let anchor = tempfile::tempdir().unwrap();
        let mut variables = vec![
            ("DATABASE_URL", ledger.options("app_trading").to_url_lossy().to_string()),
            ("LEDGER_WEBHOOK_SECRET", SECRET.to_owned()),
            ("LEDGER_SIGNING_KEY", key_lines(&[ORIGIN])),
            ("LEDGER_CHECKPOINT_INTERVAL_S", "1".to_owned()),
            // What is shown where a test fails.
            ("LEDGER_LOG", "warn".to_owned()),
            ("LEDGER_ANCHORS", format!("file:{}", anchor.path().to_str().unwrap())),
        ];
        for (name, value) in settings {
            variables.retain(|(known, _)| known != name);
            variables.push((name, (*value).to_owned()));
        }
        let program = Program::start_with(variables).await;
        Self { ledger, program, is_running: true, keys, _anchor: anchor }
    }

    /// Runs a spec to its end; each of its tests must pass.
    pub(crate) async fn run(&mut self, spec: &str) {
        let chromium = std::env::var("CHROMIUM").expect("CHROMIUM must name the browser's program");
        let mut node = Command::new("node")
            .arg(format!("specs/{spec}"))
            .current_dir(TESTS)
            .env("LEDGER_URL", format!("http://{}", self.program.address))
            .env("LEDGER_KEYS", json!(self.keys).to_string())
            .env("LEDGER_WEBHOOK_SECRET", SECRET)
            .env("CHROMIUM", chromium)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node runs");
        let (mut answers, told) = (node.stdin.take().unwrap(), node.stdout.take().unwrap());
        let mut told = BufReader::new(told).lines();
        let mut counts = Counts::default();
        let talk = async {
            while let Some(line) = told.next_line().await.unwrap() {
                match line.strip_prefix(ASKS) {
                    Some(request) => self.answer(request, &mut answers).await,
                    None => counts.read(&line),
                }
            }
            node.wait().await.unwrap()
        };
        let Ok(ended) = timeout(LIMIT, talk).await else {
            panic!("{spec} takes longer than {LIMIT:?}\n{}", self.program.stderr());
        };
        assert!(ended.success(), "{spec} failed: {ended}\n{}", self.program.stderr());
        assert!(counts.passed > 0 && counts.left_out == 0, "{spec}: {counts:?}");
    }

    async fn answer(&mut self, request: &str, answers: &mut ChildStdin) {
        let answer = match serde_json::from_str(request) {
            Ok(request) => self.obey(request).await,
            Err(error) => Err(format!("{error} in {request}")),
        };
        let answer = match answer {
            Ok(result) => json!({ "result": result }),
            Err(error) => json!({ "error": error }),
        };
        // A spec that has come to its end waits for no answer.
        let _ = answers.write_all(format!("{answer}\n").as_bytes()).await;
    }

    async fn obey(&mut self, request: Request) -> Result<Value, String> {
        match request {
            Request::Tamper { sql } => self.ledger.tamper(&sql).await,
            Request::TamperAndRearm { table, sql } => {
                self.ledger.tamper_and_rearm(&table, &sql).await;
            }
            Request::Psql { sql } => {
                let value = psql(&mut self.ledger.connect_superuser().await, sql).await;
                return value.map(|text| json!(text)).map_err(|error| error.to_string());
            }
            Request::Stop => self.stop(),
            Request::Start => self.start_again().await,
            Request::Restart => {
                self.program.kill();
                self.start_again().await;
            }
        }
        Ok(Value::Null)
    }

    fn stop(&mut self) {
        if std::mem::take(&mut self.is_running) {
            let ended = self.program.interrupt();
            assert!(ended.success(), "{ended:?}\n{}", self.program.stderr());
        }
    }

    async fn start_again(&mut self) {
        self.program.start_again().await;
        self.is_running = true;
    }

    /// The last step: the service ends in good order, and the harness verifies the whole ledger.
    pub(crate) async fn finish(mut self) {
        self.end();
        self.ledger.finish().await;
    }

    /// The last step where a spec tampers: the harness finds something.
    pub(crate) async fn finish_tampered(mut self) {
        self.end();
        self.ledger.finish_tampered().await;
    }

    fn end(&mut self) {
        self.stop();
        let telemetry = self.program.stderr();
        assert!(!telemetry.contains("panicked"), "{telemetry}");
    }
}

/// The first column of the last row, as text.
async fn psql(connection: &mut PgConnection, sql: String) -> Result<Option<String>, sqlx::Error> {
    let rows = connection.fetch_all(sqlx::raw_sql(AssertSqlSafe(sql))).await?;
    let Some(row) = rows.last() else { return Ok(None) };
    let value = row.try_get_raw(0)?;
    if value.is_null() {
        return Ok(None);
    }
    // Without parameters every value comes as text.
    value.as_str().map(|text| Some(text.to_owned())).map_err(sqlx::Error::Decode)
}

/// What node tells of its tests at the end: a line each, such as `# pass 3`.
#[derive(Debug, Default)]
struct Counts {
    passed: u32,
    /// A spec leaves none out.
    left_out: u32,
}

impl Counts {
    fn read(&mut self, line: &str) {
        // Shown where the test fails.
        eprintln!("{line}");
        let words: Vec<_> = line.split(' ').collect();
        let [_, what, number] = words[..] else { return };
        let Ok(number) = number.parse::<u32>() else { return };
        match what {
            "pass" => self.passed = number,
            "skipped" | "todo" | "cancelled" => self.left_out += number,
            _ => {}
        }
    }
}
