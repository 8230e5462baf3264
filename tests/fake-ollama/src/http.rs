//! HTTP as far as it is needed: one request per connection, a body of a known length or in chunks.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{io, thread};

use serde_json::Value;

use crate::api;
use crate::engine::Engine;

/// A client that says nothing for so long is given up.
const READ_LIMIT: Duration = Duration::from_secs(10);
/// The longest body that is read.
const BODY_MAX: u64 = 1 << 20;
/// How often it is seen whether a client is still there.
const POLL: Duration = Duration::from_millis(20);

/// A request.
pub(crate) struct Request {
    pub(crate) method: String,
    /// Without what follows a `?`.
    pub(crate) path: String,
    pub(crate) body: Vec<u8>,
    client: TcpStream,
}

impl Request {
    /// Waits, but no longer than its client does.
    pub(crate) fn wait(&self, time: Duration) {
        let end = Instant::now() + time;
        let is_pollable = self.client.set_nonblocking(true).is_ok();
        while Instant::now() < end && !(is_pollable && self.is_gone()) {
            thread::sleep(POLL.min(end.saturating_duration_since(Instant::now())));
        }
        let _ = self.client.set_nonblocking(false);
    }

    fn is_gone(&self) -> bool {
        match self.client.peek(&mut [0]) {
            Ok(bytes) => bytes == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

/// Answers everybody, for ever; returns when nobody can be answered any more.
pub fn serve(listener: &TcpListener, engine: &Arc<Engine>) -> io::Result<()> {
    for client in listener.incoming() {
        let (client, engine) = (client?, Arc::clone(engine));
        thread::spawn(move || {
            // A client that goes away is not missed.
            let _ = converse(client, &engine);
        });
    }
    Ok(())
}

fn converse(client: TcpStream, engine: &Arc<Engine>) -> io::Result<()> {
    client.set_read_timeout(Some(READ_LIMIT))?;
    let mut reader = BufReader::new(client.try_clone()?);
    let request = read(&mut reader, client)?;
    let (status, value) = api::answer(engine, &request);
    let text = match value {
        Value::String(text) => text,
        value => value.to_string(),
    };
    let kind =
        if text.starts_with(['{', '[']) { "application/json; charset=utf-8" } else { "text/plain; charset=utf-8" };
    let body = if request.method == "HEAD" { "" } else { &text };
    let mut client = request.client;
    write!(
        client,
        "HTTP/1.1 {status} {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        reason(status),
        text.len()
    )
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        500 => "Internal Server Error",
        _ => "Unknown",
    }
}

fn read(reader: &mut BufReader<TcpStream>, client: TcpStream) -> io::Result<Request> {
    let line = line(reader)?;
    let mut words = line.split(' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let (method, path) = (method.to_owned(), target.split('?').next().unwrap_or_default().to_owned());
    let (mut length, mut is_chunked) = (0, false);
    loop {
        let header = self::line(reader)?.to_ascii_lowercase();
        match header.split_once(':').map(|(name, value)| (name, value.trim())) {
            Some(("content-length", value)) => length = value.parse().map_err(|_| io::ErrorKind::InvalidData)?,
            Some(("transfer-encoding", "chunked")) => is_chunked = true,
            Some(("expect", _)) => (&client).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?,
            _ if header.is_empty() => break,
            _ => {}
        }
    }
    let mut body = Vec::new();
    if is_chunked {
        loop {
            let size = u64::from_str_radix(&self::line(reader)?, 16).map_err(|_| io::ErrorKind::InvalidData)?;
            take(reader, size, &mut body)?;
            self::line(reader)?;
            if size == 0 {
                break;
            }
        }
    } else {
        take(reader, length, &mut body)?;
    }
    Ok(Request { method, path, body, client })
}

fn take(reader: &mut BufReader<TcpStream>, length: u64, body: &mut Vec<u8>) -> io::Result<()> {
    if length.saturating_add(body.len() as u64) > BODY_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let read = reader.by_ref().take(length).read_to_end(body)?;
    if read as u64 == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Returns the next line without its end.
fn line(reader: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    if reader.by_ref().take(8192).read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}
