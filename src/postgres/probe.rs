//! Asking a server whether it lets us in, with PostgreSQL's own startup message: what counts is
//! not that a socket answers but that a session begins.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{PORT, Role};

/// A server that takes longer than this to answer counts as not ready.
const PATIENCE: Duration = Duration::from_secs(5);

/// Upper bound of one message during startup; real ones have well under 1 KiB.
const MESSAGE_BYTES_MAX: u32 = 64 * 1024;

/// Protocol 3.0, which every version understands.
const PROTOCOL: u32 = 3 << 16;

#[derive(Debug)]
pub(super) enum Answer {
    /// It accepts sessions.
    Ready,
    /// Nobody answers, or the server is starting up or shutting down. Says which.
    NotYet(String),
    /// It is up and does not want us.
    Refused(String),
}

/// Opens and closes a session of the superuser.
pub(super) async fn ask(socket_dir: &Path) -> Answer {
    let socket = socket_dir.join(format!(".s.PGSQL.{PORT}"));
    match timeout(PATIENCE, begin_session(&socket)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => Answer::NotYet(error.to_string()),
        Err(_) => Answer::NotYet("it does not answer".to_owned()),
    }
}

/// PostgreSQL documentation, chapter "Frontend/Backend Protocol", sections "Start-up" and
/// "Message Formats".
async fn begin_session(socket: &Path) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket).await?;
    let name = Role::Superuser.name();
    let parameters =
        format!("user\0{name}\0database\0postgres\0application_name\0audit-ledger\0\0");
    let length = u32::try_from(8 + parameters.len()).map_err(io::Error::other)?;
    let mut startup = Vec::from(length.to_be_bytes());
    startup.extend(PROTOCOL.to_be_bytes());
    startup.extend(parameters.as_bytes());
    stream.write_all(&startup).await?;
    loop {
        let kind = stream.read_u8().await?;
        let length = stream.read_u32().await?;
        if !(4..=MESSAGE_BYTES_MAX).contains(&length) {
            return Ok(Answer::Refused("it does not speak PostgreSQL's protocol".to_owned()));
        }
        let mut body = vec![0; length as usize - 4];
        stream.read_exact(&mut body).await?;
        match kind {
            b'E' => return Ok(judge_error(&body)),
            // AuthenticationOk is a zero; anything else wants a password.
            b'R' if body != [0; 4] => {
                return Ok(Answer::Refused("it asks for a password".to_owned()));
            }
            b'Z' => {
                // Terminate, so that the server does not log a lost connection.
                stream.write_all(&[b'X', 0, 0, 0, 4]).await?;
                return Ok(Answer::Ready);
            }
            _ => {}
        }
    }
}

/// `body` holds fields: a type byte and a text that ends with a zero.
fn judge_error(body: &[u8]) -> Answer {
    let field = |wanted: u8| {
        body.split(|&byte| byte == 0)
            .find_map(|field| field.split_first().filter(|(kind, _)| **kind == wanted))
            .map(|(_, text)| String::from_utf8_lossy(text).into_owned())
            .unwrap_or_default()
    };
    let message = field(b'M');
    match field(b'C').as_str() {
        // cannot_connect_now: starting up, recovering, shutting down. crash_shutdown and
        // admin_shutdown: the same, noticed in the middle of a session's start.
        "57P03" | "57P02" | "57P01" => Answer::NotYet(message),
        // too_many_connections: it is up, and busy. invalid_catalog_name: it let us in, and found
        // that somebody has dropped the database `postgres`.
        "53300" | "3D000" => Answer::Ready,
        _ => Answer::Refused(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_not_yet_from_no() {
        let starting = b"SFATAL\0C57P03\0Mthe database system is starting up\0\0";
        assert!(matches!(judge_error(starting), Answer::NotYet(why) if why.ends_with("up")));
        let refused = b"SFATAL\0C28000\0MPeer authentication failed\0\0";
        assert!(matches!(judge_error(refused), Answer::Refused(why) if why.starts_with("Peer")));
        assert!(matches!(judge_error(b"SFATAL\0C53300\0Msorry\0\0"), Answer::Ready));
        assert!(matches!(judge_error(b""), Answer::Refused(_)));
    }
}
