//! An HTTP client that costs next to nothing beside what it measures: one connection, one request
//! at a time.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Error;

/// A connection that is kept.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    answer: Vec<u8>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
}

impl Answer<'_> {
    /// The body, where the answer is this one; else an error with it.
    pub(crate) fn expect(&self, status: u16) -> Result<&[u8], Error> {
        if self.status == status {
            return Ok(self.body);
        }
        let body = String::from_utf8_lossy(&self.body[..self.body.len().min(500)]);
        Err(format!("answered {}, not {status}: {body}", self.status).into())
    }
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self, Error> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, answer: Vec::with_capacity(1 << 16) })
    }

    pub(crate) async fn connect_all(
        address: SocketAddr,
        connections: usize,
    ) -> Result<Vec<Self>, Error> {
        let mut clients = Vec::with_capacity(connections);
        for _ in 0..connections {
            clients.push(Self::connect(address).await?);
        }
        Ok(clients)
    }

    /// Sends a whole request and reads its answer.
    pub(crate) async fn send(&mut self, request: &[u8]) -> Result<Answer<'_>, Error> {
        self.stream.write_all(request).await?;
        self.answer.clear();
        let mut expected = None;
        loop {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                return Err("the server closed the connection".into());
            }
            if expected.is_none() {
                expected = Head::read(&self.answer)?;
            }
            match &expected {
                Some(head) if self.answer.len() >= head.end + head.length => {
                    let body = &self.answer[head.end..head.end + head.length];
                    return Ok(Answer { status: head.status, body });
                }
                _ => {}
            }
        }
    }
}

/// What the head of an answer says.
struct Head {
    status: u16,
    end: usize,
    length: usize,
}

impl Head {
    /// `None` where not all of it is there.
    fn read(answer: &[u8]) -> Result<Option<Self>, Error> {
        let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
            return Ok(None);
        };
        let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .and_then(|length| length.trim().parse().ok())
            .ok_or("an answer without content-length")?;
        let status = head.get(9..12).and_then(|status| status.parse().ok());
        let status = status.ok_or("an answer without a status")?;
        Ok(Some(Self { status, end: end + 4, length }))
    }
}

/// Latencies of requests, in milliseconds.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Latencies {
    pub(crate) count: usize,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) max_ms: f64,
}

impl Latencies {
    pub(crate) fn of(mut all: Vec<f64>) -> Result<Self, Error> {
        all.sort_by(f64::total_cmp);
        let last = all.len().checked_sub(1).ok_or("no request was answered")?;
        let at = |per_mille: usize| all[(all.len() * per_mille / 1000).min(last)];
        Ok(Self {
            count: all.len(),
            p50_ms: at(500),
            p99_ms: at(990),
            p999_ms: at(999),
            max_ms: all[last],
        })
    }
}
