//! Answers of any length, read to their end and counted: what is read is not kept.

use memchr::memchr_iter;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::Error;

/// Read at once, at most.
const BUFFER_BYTES: usize = 256 << 10;

/// An answer that was read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Drained {
    pub(crate) bytes: u64,
    /// Ends of lines: those of rows, since no seeded value has one.
    pub(crate) lines: u64,
}

/// Sends a request whose answer is 200 in chunks, and reads that to its end. An answer that breaks
/// off is an error (RFC 9112 section 7.1: the last chunk is empty).
pub(crate) async fn drain(mut stream: TcpStream, request: &[u8]) -> Result<Drained, Error> {
    stream.write_all(request).await?;
    let mut answer = BufReader::with_capacity(BUFFER_BYTES, stream);
    let head = read_head(&mut answer).await?;
    if !head.starts_with("http/1.1 200 ") || !head.contains("\r\ntransfer-encoding: chunked\r\n") {
        return Err(format!("not 200 in chunks: {head}").into());
    }
    let mut drained = Drained::default();
    let mut line = String::new();
    loop {
        line.clear();
        answer.read_line(&mut line).await?;
        let length = u64::from_str_radix(line.trim_end(), 16)
            .map_err(|_| format!("broke off after {} bytes", drained.bytes))?;
        if length == 0 {
            return Ok(drained);
        }
        drained.lines += skip(&mut answer, length).await?;
        drained.bytes += length;
        // The end of the chunk.
        answer.read_line(&mut line).await?;
    }
}

/// Everything before the body, in small letters.
async fn read_head(answer: &mut BufReader<TcpStream>) -> Result<String, Error> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if answer.read_line(&mut head).await? == 0 {
            return Err("the server closed the connection".into());
        }
    }
    Ok(head.to_ascii_lowercase())
}

/// Reads so many bytes; returns how many lines end there.
async fn skip(answer: &mut BufReader<impl AsyncRead + Unpin>, length: u64) -> Result<u64, Error> {
    let mut left = usize::try_from(length)?;
    let mut lines = 0;
    while left > 0 {
        let there = answer.fill_buf().await?;
        if there.is_empty() {
            return Err("broke off within a chunk".into());
        }
        let taken = there.len().min(left);
        lines += memchr_iter(b'\n', &there[..taken]).count() as u64;
        answer.consume(taken);
        left -= taken;
    }
    Ok(lines)
}
