//! The program under test as a process of its own, so that its memory is its own.

use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::Duration;

use audit_ledger::integrity::signing::new_key;
use audit_ledger::keys::{ApiKey, Scopes};
use audit_ledger::store::keys::create_key;
use secrecy::ExposeSecret;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::Error;
use crate::bench::{Bench, Ledger};
use crate::client::Client;
use crate::drain::{Drained, drain};

/// The name of the log that is measured.
const ORIGIN: &str = "ledger-bench.local";
const READY_WITHIN: Duration = Duration::from_secs(20);
const STOPPED_WITHIN: Duration = Duration::from_secs(20);

/// `audit-ledger serve`, without limits of rate and without checks of its own.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) requests: Requests,
}

/// Makes whole requests that are authorized.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    authorization: String,
}

impl Requests {
    /// The API key.
    pub(crate) fn key(&self) -> &str {
        self.authorization.rsplit(' ').next().unwrap_or_default()
    }

    pub(crate) fn get(&self, path: &str) -> Vec<u8> {
        format!("GET {path} HTTP/1.1\r\nHost: bench\r\n{}\r\n\r\n", self.authorization).into_bytes()
    }

    /// One with records.
    pub(crate) fn post(&self, path: &str, content_type: &str, body: &str) -> Vec<u8> {
        format!(
            "POST {path} HTTP/1.1\r\nHost: bench\r\n{}\r\nContent-Type: {content_type}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.authorization,
            body.len()
        )
        .into_bytes()
    }
}

/// A command of the program on this ledger, with no other settings than these.
pub(crate) fn command(bench: &Bench, ledger: &Ledger) -> Result<Command, Error> {
    let mut command = Command::new(bench.service()?);
    command
        .env_clear()
        .env("DATABASE_URL", &ledger.app_url)
        // Else a .env of the folder that this was started in would count.
        .current_dir(bench.folder())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    Ok(command)
}

/// The same, with the key that signs the ledger's checkpoints, and a folder that keeps them.
pub(crate) fn signing_command(bench: &Bench, ledger: &Ledger) -> Result<Command, Error> {
    let file = bench.folder().join("signing.key");
    if !file.exists() {
        std::fs::write(&file, new_key(ORIGIN)?.expose_secret())?;
    }
    let anchor = format!("file:{}", bench.anchor(ledger.name()).display());
    let mut command = command(bench, ledger)?;
    command.env("LEDGER_SIGNING_KEY_FILE", file).env("LEDGER_ANCHORS", anchor);
    Ok(command)
}

impl Running {
    /// Without checkpoints.
    pub(crate) async fn start(bench: &Bench, ledger: &Ledger) -> Result<Self, Error> {
        Self::start_command(command(bench, ledger)?, ledger).await
    }

    /// That makes checkpoints, every five seconds.
    pub(crate) async fn start_signing(bench: &Bench, ledger: &Ledger) -> Result<Self, Error> {
        Self::start_command(signing_command(bench, ledger)?, ledger).await
    }

    async fn start_command(mut command: Command, ledger: &Ledger) -> Result<Self, Error> {
        let key = ApiKey::random();
        create_key(&ledger.owner()?, &key, &"bench".parse()?, Scopes::all()).await?;
        // Free now, and most likely still when the service takes it.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let child = command
            .arg("serve")
            .env("LEDGER_LISTEN", address.to_string())
            .env("LEDGER_WEBHOOK_SECRET", "a secret for the bench only")
            .env("LEDGER_RATE_LIMIT_KEY_PER_S", "0")
            .env("LEDGER_RATE_LIMIT_ADDRESS_PER_S", "0")
            .env("LEDGER_VERIFY_INTERVAL_S", "0")
            .env("LEDGER_LOG", "warn")
            .stdout(Stdio::null())
            .spawn()?;
        let authorization = format!("Authorization: Bearer {}", key.text().expose_secret());
        let running = Self { child, address, requests: Requests { authorization } };
        let until = Instant::now() + READY_WITHIN;
        while !running.is_ready().await {
            if Instant::now() > until {
                return Err("the service was not ready in time".into());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(running)
    }

    async fn is_ready(&self) -> bool {
        let Ok(mut client) = self.connect().await else { return false };
        let answer = client.send(&self.requests.get("/readyz")).await;
        answer.is_ok_and(|answer| answer.status == 200)
    }

    pub(crate) async fn connect(&self) -> Result<Client, Error> {
        Client::connect(self.address).await
    }

    /// Reads the whole answer to a GET over a connection of its own, keeping none of it.
    pub(crate) async fn drain(&self, path: &str) -> Result<Drained, Error> {
        drain(TcpStream::connect(self.address).await?, &self.requests.get(path)).await
    }

    /// The most memory that it has had so far, in MB.
    pub(crate) fn peak_memory_mb(&self) -> Option<f64> {
        peak_memory_mb(&self.child)
    }

    /// Stops it as an operator would.
    pub(crate) async fn stop(mut self) -> Result<(), Error> {
        if let Some(pid) = self.child.id() {
            Command::new("kill").arg(pid.to_string()).status().await?;
        }
        timeout(STOPPED_WITHIN, self.child.wait()).await??;
        Ok(())
    }
}

/// The high-water mark of a process's resident memory (`VmHWM`); `None` once it has ended.
pub(crate) fn peak_memory_mb(child: &Child) -> Option<f64> {
    peak_memory_of(child.id()?)
}

/// That of the process of this id.
pub(crate) fn peak_memory_of(id: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u32 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(f64::from(kib) * 1024.0 / 1e6)
}
