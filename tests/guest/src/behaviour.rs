//! The file `behaviour` beside `init`: what this guest is to do.
//!
//! Lines `KEY=VALUE`; `#` begins a comment line. An unknown key ends the guest with status 64, so that a typing error fails the test
//! that made it.
//!
//! | key | value |
//! |---|---|
//! | `ready_after` | seconds until `READY=1`, or `never` |
//! | `exit` | `CODE` before ready, or `CODE@SECONDS` after the start; `133@SECONDS` is a reboot |
//! | `http` | port; answers 200, or what `http_status` or the file `/var/lib/guest/status` says, `0` hangs up |
//! | `http_status` | status while that file does not exist |
//! | `tcp` | port; accepts and closes |
//! | `udp` | port; sends back what it receives |
//! | `listen_after` | seconds until ports are listened on |
//! | `stop_takes` | seconds from the request to end to the end, or `never` |
//! | `hog` | MiB to allocate and touch |
//! | `forks` | number of idle children to have; what is not allowed is tried again |
//! | `spin` | any: keeps a processor busy |
//! | `open` | a path that it tries to open again and again: see `open.rs` |
//! | `log` | a line for standard output |
//! | `write` | `RATE@COUNT`: so many numbered lines a second to standard output, until there are COUNT |
//! | `ollama` | port; a simulator of Ollama (`nixmox-fake-ollama`) answers there, as a process of its own |
//! | `ollama_is` | a line of what that simulator is told; again for more |
//! | `run` | a program and its arguments, without blanks in any of them: a process beside the guest, with the environment of services |
//! | `vram` | `INDEX@BYTES`: so much of a GPU that it holds |
//! | `revision` | nothing: makes another system |

use std::{path::PathBuf, time::Duration};

/// A time that may never come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delay {
    /// After this time.
    After(Duration),
    /// Not at all.
    Never,
}

/// What the file says.
#[derive(Debug, PartialEq)]
pub(crate) struct Behaviour {
    /// When to say `READY=1`.
    pub(crate) ready: Delay,
    /// Exit status and time of an end of its own; `None` runs until asked to end.
    pub(crate) exit: Option<(u8, Duration)>,
    /// Ports that answer HTTP.
    pub(crate) http: Vec<u16>,
    /// Status of answers while no file says another.
    pub(crate) http_status: u16,
    /// Ports that accept and close.
    pub(crate) tcp: Vec<u16>,
    /// Ports that send back what they receive.
    pub(crate) udp: Vec<u16>,
    /// Time until ports are listened on.
    pub(crate) listen_after: Duration,
    /// Time between the request to end and the end.
    pub(crate) stop: Delay,
    /// MiB to hold.
    pub(crate) hog: usize,
    /// Children to keep.
    pub(crate) forks: u32,
    /// Keeps a processor busy.
    pub(crate) spin: bool,
    /// Paths to try to open, for ever.
    pub(crate) open: Vec<PathBuf>,
    /// Lines to print at the start.
    pub(crate) log: Vec<String>,
    /// The port of a simulator of Ollama.
    pub(crate) ollama: Option<u16>,
    /// What it is told.
    pub(crate) ollama_is: String,
    /// A program and its arguments.
    pub(crate) run: Vec<String>,
    /// What is held of GPUs: index, bytes.
    pub(crate) vram: Vec<(usize, u64)>,
    /// Numbered lines to print: so many a second, and in all.
    pub(crate) write: Option<(u32, u32)>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            ready: Delay::After(Duration::ZERO),
            exit: None,
            http: Vec::new(),
            http_status: 200,
            tcp: Vec::new(),
            udp: Vec::new(),
            listen_after: Duration::ZERO,
            stop: Delay::After(Duration::ZERO),
            hog: 0,
            forks: 0,
            spin: false,
            open: Vec::new(),
            log: Vec::new(),
            ollama: None,
            ollama_is: String::new(),
            run: Vec::new(),
            vram: Vec::new(),
            write: None,
        }
    }
}

impl Behaviour {
    /// Reads the text of the file; the error names the line.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut behaviour = Self::default();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (key, value) = line.split_once('=').ok_or_else(|| format!("no `=` in `{line}`"))?;
            behaviour.set(key, value).ok_or_else(|| format!("cannot read `{line}`"))?;
        }
        Ok(behaviour)
    }

    fn set(&mut self, key: &str, value: &str) -> Option<()> {
        match key {
            "ready_after" => self.ready = delay(value)?,
            "exit" => {
                let (code, after) = value.split_once('@').unwrap_or((value, "0"));
                self.exit = Some((code.parse().ok()?, seconds(after)?));
            }
            "http" => self.http.push(value.parse().ok()?),
            "http_status" => self.http_status = value.parse().ok()?,
            "tcp" => self.tcp.push(value.parse().ok()?),
            "udp" => self.udp.push(value.parse().ok()?),
            "listen_after" => self.listen_after = seconds(value)?,
            "stop_takes" => self.stop = delay(value)?,
            "hog" => self.hog = value.parse().ok()?,
            "forks" => self.forks = value.parse().ok()?,
            "spin" => self.spin = true,
            "open" => self.open.push(value.into()),
            "log" => self.log.push(value.to_owned()),
            "write" => {
                let (rate, count) = value.split_once('@')?;
                self.write = Some((rate.parse().ok().filter(|rate| *rate > 0)?, count.parse().ok()?));
            }
            "ollama" => self.ollama = Some(value.parse().ok()?),
            "ollama_is" => {
                self.ollama_is.push_str(value);
                self.ollama_is.push('\n');
            }
            "run" => self.run = value.split(' ').map(str::to_owned).collect(),
            "vram" => {
                let (index, bytes) = value.split_once('@')?;
                self.vram.push((index.parse().ok()?, bytes.parse().ok()?));
            }
            "revision" => {}
            _ => return None,
        }
        Some(())
    }
}

fn delay(value: &str) -> Option<Delay> {
    if value == "never" { Some(Delay::Never) } else { seconds(value).map(Delay::After) }
}

fn seconds(value: &str) -> Option<Duration> {
    Duration::try_from_secs_f32(value.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, time::Duration};

    use super::{Behaviour, Delay};

    #[test]
    fn reads_every_key() {
        let text = "# a comment\nready_after=1.5\nexit=3@2\nhttp=80\nhttp=81\nhttp_status=503\ntcp=5432\nudp=53\nlisten_after=1\nstop_takes=never\n\
                    hog=10\nforks=4\nspin=1\nopen=/dev/a\nlog=hello = you\nwrite=500@9\nollama=11434\nollama_is=version 0.6.8\n\
                    ollama_is=load_takes 1\nvram=1@4096\nrun=/bin/a -b c\nrevision=2\n";
        let read = Behaviour::parse(text).expect("the text is good");
        assert_eq!(read.ready, Delay::After(Duration::from_millis(1500)));
        assert_eq!(read.exit, Some((3, Duration::from_secs(2))));
        assert_eq!(read.http, [80, 81]);
        assert_eq!((read.http_status, read.hog, read.forks, read.spin), (503, 10, 4, true));
        assert_eq!((read.tcp, read.udp), (vec![5432], vec![53]));
        assert_eq!((read.stop, read.write), (Delay::Never, Some((500, 9))));
        assert_eq!(read.open, [PathBuf::from("/dev/a")]);
        assert_eq!(read.log, ["hello = you"]);
        assert_eq!((read.ollama, read.ollama_is.as_str()), (Some(11434), "version 0.6.8\nload_takes 1\n"));
        assert_eq!(read.vram, [(1, 4096)]);
        assert_eq!(read.run, ["/bin/a", "-b", "c"]);
    }

    #[test]
    fn names_the_line_that_it_cannot_read() {
        assert_eq!(Behaviour::parse("redy_after=1"), Err("cannot read `redy_after=1`".to_owned()));
        assert_eq!(Behaviour::parse("http=65536"), Err("cannot read `http=65536`".to_owned()));
        assert_eq!(Behaviour::parse("http"), Err("no `=` in `http`".to_owned()));
    }
}
