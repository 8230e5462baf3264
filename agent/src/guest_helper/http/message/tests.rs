//! Answers in every form, and what only begins as one.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener};
use std::time::{Duration, Instant};

use super::*;

/// Sends these pieces to one connection with a pause before each but the first, and closes it.
fn sending(pieces: Vec<Vec<u8>>, pause: Duration) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        let _ = stream.read(&mut request).unwrap();
        for (number, piece) in pieces.into_iter().enumerate() {
            if number > 0 {
                std::thread::sleep(pause);
            }
            // Who asked may have had enough.
            if stream.write_all(&piece).is_err() {
                return;
            }
        }
    });
    port
}

fn ask_within(port: u16, answer_max: usize, limit: Duration) -> Result<Response, Trouble> {
    let request = Request { host: "localhost", target: "/", body: None, answer_max };
    exchange(&[IpAddr::from([127, 0, 0, 1])], port, &request, Deadline(Instant::now() + limit))
}

fn ask(answer: &[u8]) -> Result<Response, Trouble> {
    ask_within(sending(vec![answer.to_vec()], Duration::ZERO), 64, Duration::from_secs(10))
}

fn body(answer: &[u8]) -> String {
    let response = ask(answer).unwrap();
    assert_eq!(response.status, 200);
    String::from_utf8(response.body).unwrap()
}

#[test]
fn a_body_ends_where_it_says() {
    assert_eq!(body(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more"), "hello");
    assert_eq!(body(b"HTTP/1.1 200 OK\r\ncontent-length:5\r\nContent-Length: 5\r\nX: y\r\n\r\nhello"), "hello");
    assert_eq!(body(b"HTTP/1.1 200 OK\n\nhello"), "hello", "it ends with the connection");
    assert_eq!(body(b"HTTP/1.0 200 OK\r\n\r\n"), "");
    let chunked =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nT: t\r\n\r\n";
    assert_eq!(body(chunked), "hello");
    assert_eq!(ask(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().body, b"");
}

#[test]
fn what_is_told_before_the_answer_is_skipped() {
    let interim =
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\nContent-Length: 7\r\n\r\n";
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(body(format!("{interim}{answer}").as_bytes()), "hello");
    let endless = "HTTP/1.1 102 Processing\r\n\r\n".repeat(100) + answer;
    let switched = format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n{answer}");
    for answer in [endless, switched] {
        assert!(matches!(ask(answer.as_bytes()), Err(Trouble::NotHttp)), "{answer}");
    }
}

#[test]
fn pieces_that_come_slowly_are_put_together() {
    let text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let pieces = text.chunks(7).map(<[u8]>::to_vec).collect();
    let response = ask_within(sending(pieces, Duration::from_millis(5)), 64, Duration::from_secs(10));
    assert_eq!(response.unwrap().body, b"hello");
}

#[test]
fn nothing_is_read_beyond_the_bound() {
    let long = "x".repeat(65);
    for head in [
        format!("HTTP/1.1 200 OK\r\nContent-Length: 65\r\n\r\n{long}"),
        format!("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n{long}"),
        format!("HTTP/1.1 200 OK\r\n\r\n{long}"),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n{}\r\n21\r\n{long}", "x".repeat(32)),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n".to_owned(),
    ] {
        let answer = ask(head.as_bytes());
        assert!(matches!(answer, Err(Trouble::TooLong(64))), "{head:?}: {answer:?}");
    }
    let headers = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(HEAD_BYTES_MAX / 6));
    assert!(matches!(ask(headers.as_bytes()), Err(Trouble::NotHttp)));
    let line = format!("HTTP/1.1 200 {}", "x".repeat(HEAD_BYTES_MAX));
    assert!(matches!(ask(line.as_bytes()), Err(Trouble::NotHttp)));
    let trailers =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n".to_owned() + &"A: b\r\n".repeat(100);
    assert!(matches!(ask(trailers.as_bytes()), Err(Trouble::NotHttp)));
}

#[test]
fn an_answer_that_is_cut_off_is_none() {
    for text in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"",
    ] {
        let answer = ask(text);
        assert!(matches!(answer, Err(Trouble::CutOff)), "{text:?}: {answer:?}");
    }
}

#[test]
fn what_is_no_http_is_told_as_such() {
    for text in [
        &b"SSH-2.0-OpenSSH_9.9\r\n"[..],
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello and more\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\xff\xff: x\r\n\r\n",
        b"\xff\xfe\x00",
    ] {
        let answer = ask(text);
        assert!(matches!(answer, Err(Trouble::NotHttp)), "{text:?}: {answer:?}");
    }
}

#[test]
fn the_time_is_for_all_of_it_however_often_something_comes() {
    let began = Instant::now();
    let mut pieces = vec![b"HTTP/1.1 200 OK\r\n\r\n".to_vec()];
    pieces.extend(vec![b"x".to_vec(); 50]);
    let answer = ask_within(sending(pieces, Duration::from_millis(20)), 64, Duration::from_millis(200));
    assert!(matches!(answer, Err(Trouble::TimedOut)), "{answer:?}");
    assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
}

#[test]
fn a_body_is_sent_with_its_length() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut text = Vec::new();
        while !text.ends_with(b"{}") {
            let mut more = [0; 1024];
            let read = stream.read(&mut more).unwrap();
            text.extend_from_slice(&more[..read]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        String::from_utf8(text).unwrap()
    });
    let request = Request { host: "a.b:81", target: "/api/x?y", body: Some(b"{}"), answer_max: 64 };
    let deadline = Deadline(Instant::now() + Duration::from_secs(10));
    exchange(&[IpAddr::from([127, 0, 0, 1])], port, &request, deadline).unwrap();
    let asked = asked.join().unwrap();
    assert!(asked.starts_with("POST /api/x?y HTTP/1.1\r\nHost: a.b:81\r\n"), "{asked}");
    assert!(asked.contains("\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"), "{asked}");
}
