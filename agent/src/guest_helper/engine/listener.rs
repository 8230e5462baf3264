//! A server on loopback that answers by a script, for tests of whoever asks engines.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::guest_helper::Deadline;

/// What was asked: the method with the target, and the body.
pub(in crate::guest_helper) type Call = (String, Value);

/// A server that is there until the test ends.
pub(in crate::guest_helper) struct Listener {
    pub(in crate::guest_helper) url: String,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Listener {
    /// Answers each call by status and body.
    pub(in crate::guest_helper) fn answering(
        mut answer: impl FnMut(&str, &Value) -> (u16, String) + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let calls = Arc::<Mutex<Vec<Call>>>::default();
        let noted = Arc::clone(&calls);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let (what, body) = request(&mut stream);
                let (status, text) = answer(&what, &body);
                noted.lock().unwrap().push((what, body));
                let head = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n\r\n", text.len());
                stream.write_all((head + &text).as_bytes()).unwrap();
            }
        });
        Self { url, calls }
    }

    /// Answers calls of a target in turn with these; the last of each target again and again, and anything else with 404.
    pub(in crate::guest_helper) fn scripted(script: &[(&str, u16, &str)]) -> Self {
        let mut answers: Vec<(String, VecDeque<(u16, String)>)> = Vec::new();
        for (target, status, text) in script {
            let answer = (*status, (*text).to_owned());
            match answers.iter_mut().find(|(known, _)| known == target) {
                Some((_, queue)) => queue.push_back(answer),
                None => answers.push(((*target).to_owned(), VecDeque::from([answer]))),
            }
        }
        Self::answering(move |what, _| {
            let Some((_, queue)) = answers.iter_mut().find(|(known, _)| known == what) else {
                return (404, "404 page not found".to_owned());
            };
            if queue.len() > 1 { queue.pop_front().unwrap() } else { queue[0].clone() }
        })
    }

    /// Returns what was asked so far.
    pub(in crate::guest_helper) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    /// Returns what was asked so far, without bodies.
    pub(in crate::guest_helper) fn targets(&self) -> Vec<String> {
        self.calls().into_iter().map(|(what, _)| what).collect()
    }
}

/// Returns a time that no test takes.
pub(in crate::guest_helper) fn soon() -> Deadline {
    Deadline(Instant::now() + Duration::from_secs(10))
}

fn request(stream: &mut TcpStream) -> Call {
    let mut text = Vec::new();
    let mut more = [0; 4096];
    loop {
        let read = stream.read(&mut more).unwrap();
        text.extend_from_slice(&more[..read]);
        let Some(end) = text.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(text[..end].to_vec()).unwrap();
        assert!(head.contains("\r\nHost: 127.0.0.1:"), "{head}");
        let mut words = head.split(' ');
        let what = format!("{} {}", words.next().unwrap(), words.next().unwrap());
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = length.map_or(0, |length| length.parse().unwrap());
        let body = &text[end + 4..];
        if body.len() == length {
            let body = if length == 0 { Value::Null } else { serde_json::from_slice(body).unwrap() };
            return (what, body);
        }
    }
}
