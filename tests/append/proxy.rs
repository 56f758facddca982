//! A network between the Appender and PostgreSQL that breaks where a test wants it to.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use audit_ledger::store::Database;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinHandle;

use crate::common::{TestLedger, database};

/// What the Appender sends to commit; `READ COMMITTED` is something else.
const COMMIT: &[u8] = b"COMMIT /* commit */";

/// How the network breaks, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The connection ends before COMMIT is passed on.
    BeforeCommit,
    /// COMMIT is passed on, the server answers, and the connection ends before the answer is.
    AfterCommit,
    /// COMMIT is passed on and the connection ends at once.
    DuringCommit,
    /// COMMIT is passed on, and nothing comes back, though the connection stays.
    AnswerLost,
    /// COMMIT is not passed on, and neither side hears that the other has gone.
    BlackHole,
    /// The connection ends after so many more bytes to the server.
    AfterSent(usize),
    /// The connection ends after so many more bytes from the server.
    AfterReceived(usize),
}

#[derive(Default)]
struct State {
    fault: Option<Fault>,
    refusing: bool,
    /// Connections that nobody is told the end of.
    kept: Vec<(TcpStream, Server)>,
}

/// Listens on a TCP port and passes everything on to the ledger's server.
pub(crate) struct Proxy {
    port: u16,
    state: Arc<Mutex<State>>,
    listening: JoinHandle<()>,
    options: PgConnectOptions,
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}
type Server = Box<dyn Duplex>;

impl Proxy {
    pub(crate) async fn start(ledger: &TestLedger) -> Self {
        let options = ledger.options("app_trading");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::<Mutex<State>>::default();
        let listening = tokio::spawn(listen(listener, options.clone(), state.clone()));
        Self { port, state, listening, options }
    }

    /// The service's login, through the proxy.
    pub(crate) fn app(&self) -> Database {
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .ssl_mode(PgSslMode::Disable)
            .username(self.options.get_username())
            .database(self.options.get_database().expect("a database"));
        database(&options)
    }

    /// Breaks at the next opportunity.
    pub(crate) fn arm(&self, fault: Fault) {
        self.state.lock().unwrap().fault = Some(fault);
    }

    /// Whether what was armed has happened.
    pub(crate) fn has_fired(&self) -> bool {
        self.state.lock().unwrap().fault.is_none()
    }

    /// Nothing happens any more.
    pub(crate) fn disarm(&self) {
        self.state.lock().unwrap().fault = None;
    }

    /// Whether new connections are closed as soon as they are made.
    pub(crate) fn refuse(&self, refusing: bool) {
        self.state.lock().unwrap().refusing = refusing;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn listen(listener: TcpListener, options: PgConnectOptions, state: Arc<Mutex<State>>) {
    while let Ok((client, _)) = listener.accept().await {
        if state.lock().unwrap().refusing {
            continue;
        }
        let server = connect(&options).await;
        // An end of either side is the end of both; the client sees what it would see.
        tokio::spawn(carry(client, server, state.clone()));
    }
}

async fn connect(options: &PgConnectOptions) -> Server {
    let port = options.get_port();
    if let Some(folder) = options.get_socket() {
        let socket = folder.join(format!(".s.PGSQL.{port}"));
        Box::new(UnixStream::connect(socket).await.expect("the server's socket"))
    } else {
        let address: (&str, u16) = (options.get_host(), port);
        Box::new(TcpStream::connect(address).await.expect("the server's port"))
    }
}

/// What is to be done with bytes on their way.
enum Verdict {
    Pass,
    /// Pass on so many, then end the connection.
    End(usize),
    /// Pass on all, wait for an answer, and do this with it.
    Answer(Fault),
    /// Keep the connection and pass on nothing any more.
    Keep,
}

fn verdict_on_sent(state: &Mutex<State>, bytes: &[u8]) -> Verdict {
    let mut state = state.lock().unwrap();
    let commit = bytes.windows(COMMIT.len()).any(|window| window == COMMIT);
    let verdict = match state.fault {
        Some(Fault::AfterSent(left)) if bytes.len() < left => {
            state.fault = Some(Fault::AfterSent(left - bytes.len()));
            return Verdict::Pass;
        }
        Some(Fault::AfterSent(left)) => Verdict::End(left),
        Some(Fault::BeforeCommit) if commit => Verdict::End(0),
        Some(Fault::DuringCommit) if commit => Verdict::End(bytes.len()),
        Some(fault @ (Fault::AfterCommit | Fault::AnswerLost)) if commit => Verdict::Answer(fault),
        Some(Fault::BlackHole) if commit => Verdict::Keep,
        _ => return Verdict::Pass,
    };
    state.fault = None;
    verdict
}

fn verdict_on_received(state: &Mutex<State>, bytes: &[u8]) -> Verdict {
    let mut state = state.lock().unwrap();
    match state.fault {
        Some(Fault::AfterReceived(left)) if bytes.len() < left => {
            state.fault = Some(Fault::AfterReceived(left - bytes.len()));
            Verdict::Pass
        }
        Some(Fault::AfterReceived(left)) => {
            state.fault = None;
            Verdict::End(left)
        }
        _ => Verdict::Pass,
    }
}

async fn carry(mut client: TcpStream, mut server: Server, state: Arc<Mutex<State>>) {
    let (mut sent, mut received) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        let passed = tokio::select! {
            read = client.read(&mut sent) => {
                let Ok(count @ 1..) = read else { return };
                let bytes = &sent[..count];
                match verdict_on_sent(&state, bytes) {
                    Verdict::Pass => server.write_all(bytes).await,
                    Verdict::End(count) => {
                        let _ = server.write_all(&bytes[..count]).await;
                        return;
                    }
                    Verdict::Answer(fault) => {
                        server.write_all(bytes).await.expect("the server is there");
                        let _ = server.read(&mut received).await;
                        if fault == Fault::AnswerLost {
                            // Until the client gives up.
                            let _ = client.read(&mut sent).await;
                        }
                        return;
                    }
                    Verdict::Keep => {
                        state.lock().unwrap().kept.push((client, server));
                        return;
                    }
                }
            }
            read = server.read(&mut received) => {
                let Ok(count @ 1..) = read else { return };
                match verdict_on_received(&state, &received[..count]) {
                    Verdict::End(count) => {
                        let _ = client.write_all(&received[..count]).await;
                        return;
                    }
                    _ => client.write_all(&received[..count]).await,
                }
            }
        };
        if passed.is_err() {
            return;
        }
    }
}

/// An address on which nobody listens.
pub(crate) async fn nobodys_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    listener.local_addr().expect("an address")
}
