//! The guest's ports: an HTTP answer whose status a test flips by writing a file, bare TCP, and an echo over UDP.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

/// A test writes a status here to change the answers of a running guest; `0` hangs up without an answer.
const STATUS_FILE: &str = "/var/lib/guest/status";
/// Written when a TCP port is listened on: its time is the earliest at which the guest can have been found well.
pub(crate) const LISTENS_FILE: &str = "/var/lib/guest/listens";
/// A client that says nothing for this long is given up.
const READ_LIMIT: Duration = Duration::from_secs(5);

/// Answers HTTP on a port for ever; returns when the port cannot be had.
pub(crate) fn http(port: u16, status: u16) -> std::io::Result<()> {
    accept(port, move |stream| {
        let _ = answer(stream, status);
    })
}

/// Accepts and closes connections on a port for ever; returns when the port cannot be had.
pub(crate) fn tcp(port: u16) -> std::io::Result<()> {
    accept(port, drop)
}

/// Sends every datagram on a port back to where it came from, for ever; returns when the port cannot be had.
pub(crate) fn udp(port: u16) -> std::io::Result<()> {
    let socket = UdpSocket::bind(("0.0.0.0", port))?;
    let mut datagram = [0; 2048];
    loop {
        let (length, from) = socket.recv_from(&mut datagram)?;
        let _ = socket.send_to(datagram.get(..length).unwrap_or_default(), from);
    }
}

fn accept(port: u16, serve: impl Fn(TcpStream) + Copy + Send + 'static) -> std::io::Result<()> {
    // Both families where the kernel has both.
    let listener = TcpListener::bind(("::", port)).or_else(|_| TcpListener::bind(("0.0.0.0", port)))?;
    // A root that cannot be written to has no test that asks for it.
    let _ = fs::write(LISTENS_FILE, "listens\n");
    for stream in listener.incoming().flatten() {
        thread::spawn(move || serve(stream));
    }
    Ok(())
}

fn answer(stream: TcpStream, status: u16) -> std::io::Result<()> {
    stream.set_read_timeout(Some(READ_LIMIT))?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 && line != "\r\n" && line != "\n" {
        line.clear();
    }
    let status = fs::read_to_string(STATUS_FILE).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(status);
    if status == 0 {
        return Ok(());
    }
    let body = format!("status {status}\n");
    write!(
        reader.get_mut(),
        "HTTP/1.1 {status} Test\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
