//! A request with its answer: a bounded head, and a bounded body in any of the three ways in which HTTP/1.1 says its length.
//!
//! Read by RFC 9112: `Content-Length`, `chunked`, or up to the end of the connection; what is told meanwhile (1xx) is skipped. Whatever else an answer asks for (another place,
//! another coding, another protocol) is not done.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};

use super::{status, timed};
use crate::guest_helper::{Deadline, Trouble, tcp};

/// Longest head of an answer that is read.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Longest line of a chunk's size, and most lines behind the last chunk that are read.
const CHUNK_LINE_BYTES_MAX: usize = 4096;
const TRAILERS_MAX: usize = 64;
/// Most answers before the answer that are skipped (RFC 9110, 15.2): one that goes on for ever is none.
const INTERIM_MAX: usize = 16;
/// Changes the protocol, which nobody asked for (RFC 9110, 15.2.2).
const SWITCHING: u16 = 101;
/// What is read at once.
const READ_BYTES: usize = 16 * 1024;

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(in crate::guest_helper) struct Request<'a> {
    /// Host and port, for `Host:`.
    pub(in crate::guest_helper) host: &'a str,
    /// Path and query, which have no blanks.
    pub(in crate::guest_helper) target: &'a str,
    /// The body of a POST, in JSON; `None`: a GET.
    pub(in crate::guest_helper) body: Option<&'a [u8]>,
    /// Longest body of an answer that is read, in bytes.
    pub(in crate::guest_helper) answer_max: usize,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::guest_helper) struct Response {
    /// The status, 100 to 599.
    pub(in crate::guest_helper) status: u16,
    /// The body as it is.
    pub(in crate::guest_helper) body: Vec<u8>,
}

/// Asks the first of these addresses that accepts.
pub(in crate::guest_helper) fn exchange(
    addresses: &[IpAddr],
    port: u16,
    request: &Request<'_>,
    deadline: Deadline,
) -> Result<Response, Trouble> {
    let mut stream = tcp::open(addresses, port, deadline)?;
    let Request { host, target, body, answer_max } = *request;
    let method = if body.is_some() { "POST" } else { "GET" };
    let mut text = format!(
        "{method} {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: nixmox\r\nAccept: application/json\r\nConnection: close\r\n"
    );
    if let Some(body) = body {
        text += "Content-Type: application/json\r\nContent-Length: ";
        text += &body.len().to_string();
        text += "\r\n";
    }
    text += "\r\n";
    stream.set_write_timeout(Some(deadline.left()?)).map_err(Trouble::Io)?;
    stream.write_all(text.as_bytes()).map_err(timed)?;
    stream.write_all(body.unwrap_or_default()).map_err(timed)?;
    let mut reader = Reader { stream, buffer: Vec::new(), at: 0, deadline };
    let head = reader.last_head()?;
    let body = match head.length {
        Length::Bytes(bytes) => {
            let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes <= answer_max);
            reader.exactly(bytes.ok_or(Trouble::TooLong(answer_max))?)?
        }
        Length::Chunked => reader.chunks(answer_max)?,
        Length::UntilTheEnd => reader.rest(answer_max)?,
    };
    Ok(Response { status: head.status, body })
}

/// What is told before a body.
struct Head {
    status: u16,
    length: Length,
}

/// How long a body is: RFC 9112 section 6.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Bytes(u64),
    Chunked,
    UntilTheEnd,
}

/// Reads what arrives, and keeps what was not asked for yet.
struct Reader {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Where what is not taken yet begins.
    at: usize,
    deadline: Deadline,
}

impl Reader {
    /// Waits for more; returns whether there was any.
    fn fill(&mut self) -> Result<bool, Trouble> {
        self.stream.set_read_timeout(Some(self.deadline.left()?)).map_err(Trouble::Io)?;
        let mut more = [0; READ_BYTES];
        let read = self.stream.read(&mut more).map_err(timed)?;
        if self.at > 0 {
            self.buffer.drain(..self.at.min(self.buffer.len()));
            self.at = 0;
        }
        self.buffer.extend_from_slice(more.get(..read).unwrap_or_default());
        Ok(read > 0)
    }

    fn waiting(&self) -> &[u8] {
        self.buffer.get(self.at..).unwrap_or_default()
    }

    /// Takes a line without its end; one that is longer, or has no end, is none.
    fn line(&mut self, most: usize) -> Result<Vec<u8>, Trouble> {
        loop {
            if let Some(end) = self.waiting().iter().take(most).position(|byte| *byte == b'\n') {
                let line = self.waiting().get(..end).unwrap_or_default();
                let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
                self.at = self.at.saturating_add(end).saturating_add(1);
                return Ok(line);
            }
            if self.waiting().len() >= most {
                return Err(Trouble::NotHttp);
            }
            if !self.fill()? {
                return Err(if self.waiting().is_empty() { Trouble::CutOff } else { Trouble::NotHttp });
            }
        }
    }

    /// Returns the head of the answer itself.
    fn last_head(&mut self) -> Result<Head, Trouble> {
        for _ in 0..INTERIM_MAX {
            let head = self.head()?;
            if head.status >= 200 {
                return Ok(head);
            }
            if head.status == SWITCHING {
                break;
            }
        }
        Err(Trouble::NotHttp)
    }

    fn head(&mut self) -> Result<Head, Trouble> {
        let first = self.line(HEAD_BYTES_MAX)?;
        let status = status(&first).ok_or(Trouble::NotHttp)?;
        let mut left = HEAD_BYTES_MAX.saturating_sub(first.len());
        let (mut length, mut is_chunked) = (None, false);
        loop {
            let line = self.line(left.max(1))?;
            if line.is_empty() {
                break;
            }
            left = left.saturating_sub(line.len()).saturating_sub(2);
            let text = std::str::from_utf8(&line).map_err(|_| Trouble::NotHttp)?;
            let (name, value) = text.split_once(':').ok_or(Trouble::NotHttp)?;
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                let bytes = value.parse::<u64>().map_err(|_| Trouble::NotHttp)?;
                // Two that differ are an attempt to be read in two ways.
                if length.replace(bytes).is_some_and(|earlier| earlier != bytes) {
                    return Err(Trouble::NotHttp);
                }
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                if !value.eq_ignore_ascii_case("chunked") {
                    return Err(Trouble::NotHttp);
                }
                is_chunked = true;
            }
        }
        let length = match (status, is_chunked, length) {
            (..200 | 204 | 304, _, _) => Length::Bytes(0),
            (_, true, _) => Length::Chunked,
            (_, false, Some(bytes)) => Length::Bytes(bytes),
            (_, false, None) => Length::UntilTheEnd,
        };
        Ok(Head { status, length })
    }

    fn exactly(&mut self, bytes: usize) -> Result<Vec<u8>, Trouble> {
        let mut body = Vec::new();
        self.take_into(&mut body, bytes)?;
        Ok(body)
    }

    /// Moves so many bytes; memory is taken for what has arrived and not for what was claimed.
    fn take_into(&mut self, body: &mut Vec<u8>, mut bytes: usize) -> Result<(), Trouble> {
        while bytes > 0 {
            let next = self.waiting().len().min(bytes);
            body.extend_from_slice(self.waiting().get(..next).unwrap_or_default());
            self.at = self.at.saturating_add(next);
            bytes = bytes.saturating_sub(next);
            if bytes > 0 && !self.fill()? {
                return Err(Trouble::CutOff);
            }
        }
        Ok(())
    }

    /// RFC 9112 section 7.1.
    fn chunks(&mut self, most: usize) -> Result<Vec<u8>, Trouble> {
        let mut body = Vec::new();
        loop {
            let line = self.line(CHUNK_LINE_BYTES_MAX)?;
            let size = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
            let size = chunk_size(size).ok_or(Trouble::NotHttp)?;
            if size == 0 {
                break;
            }
            let size = usize::try_from(size).ok().filter(|size| *size <= most.saturating_sub(body.len()));
            self.take_into(&mut body, size.ok_or(Trouble::TooLong(most))?)?;
            if !self.line(CHUNK_LINE_BYTES_MAX)?.is_empty() {
                return Err(Trouble::NotHttp);
            }
        }
        for _ in 0..TRAILERS_MAX {
            if self.line(CHUNK_LINE_BYTES_MAX)?.is_empty() {
                return Ok(body);
            }
        }
        Err(Trouble::NotHttp)
    }

    fn rest(&mut self, most: usize) -> Result<Vec<u8>, Trouble> {
        loop {
            if self.waiting().len() > most {
                return Err(Trouble::TooLong(most));
            }
            if !self.fill()? {
                return Ok(self.waiting().to_vec());
            }
        }
    }
}

fn chunk_size(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests;
