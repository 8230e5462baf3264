//! What a guest does to GPUs that are not there: it holds their memory, by files that the host's side reads, and runs a simulator of
//! Ollama in a process of its own, as the real one is.

use std::{
    collections::BTreeMap,
    env, fs,
    net::TcpListener,
    path::Path,
    process::{self, Command},
};

use nixmox_fake_ollama::{Config, Engine, Gpus as _, Held, Inside, compose_for_ever, serve};

use crate::behaviour::Behaviour;

/// Where the host's side looks for files of a guest, as inside.
const FOLDER: &str = "/var/lib/guest/gpu";
/// What a service manager takes its services' environment from; this guest has none.
const ENVIRONMENT: &str = "/run/systemd/system.conf.d/50-nixmox.conf";

/// Becomes the simulator, or the host's side, where it was started as one.
pub(crate) fn run_as_asked() {
    let arguments: Vec<String> = env::args().collect();
    let arguments: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
    match arguments[..] {
        ["ollama", port, config] => {
            let ended = ollama(port, config);
            eprintln!("ollama: {}", ended.err().unwrap_or_default());
            process::exit(70);
        }
        ["compose", folder, roots] => compose_for_ever(Path::new(folder), Path::new(roots)),
        _ => {}
    }
}

/// Begins what the behaviour says of GPUs.
pub(crate) fn begin(behaviour: &Behaviour) {
    if let Some(port) = behaviour.ollama {
        let begun =
            Command::new("/proc/self/exe").args(["ollama", &port.to_string(), &behaviour.ollama_is]).spawn();
        if let Err(error) = begun {
            eprintln!("guest: cannot start the simulator of Ollama: {error}");
        }
    } else if !behaviour.vram.is_empty() {
        let held = |(gpu, bytes): &(usize, u64)| Held { pid: process::id(), gpu: *gpu, bytes: *bytes };
        let held: Vec<Held> = behaviour.vram.iter().map(held).collect();
        match Inside::open(FOLDER.into(), "/dev".into()) {
            Ok(inside) => inside.hold(&held),
            Err(text) => eprintln!("guest: {text}"),
        }
    } else {
        // Of a run of another behaviour.
        let _ = fs::remove_dir_all(FOLDER);
    }
}

fn ollama(port: &str, config: &str) -> Result<(), String> {
    let text = fs::read_to_string(ENVIRONMENT).unwrap_or_default();
    let config = Config::parse(config)?.with_environment(environment(&text));
    let port: u16 = port.parse().map_err(|_| format!("{port} is no port"))?;
    let gpus = Inside::open(FOLDER.into(), "/dev".into())?;
    let listener =
        TcpListener::bind(("0.0.0.0", port)).map_err(|error| format!("cannot listen on {port}: {error}"))?;
    let engine = Engine::start(config, Box::new(gpus), &["/proc/self/exe", "idle"]);
    serve(&listener, &engine).map_err(|error| error.to_string())
}

/// Returns what `DefaultEnvironment=` lines with one quoted assignment each set.
fn environment(text: &str) -> BTreeMap<String, String> {
    let assignment = |line: &str| {
        let quoted = line.strip_prefix("DefaultEnvironment=\"")?.strip_suffix('"')?;
        let (name, value) = quoted.split_once('=')?;
        Some((name.to_owned(), unquote(value)))
    };
    text.lines().filter_map(assignment).collect()
}

fn unquote(value: &str) -> String {
    let mut plain = String::new();
    let mut letters = value.chars();
    while let Some(letter) = letters.next() {
        match (letter, letter == '\\' || letter == '%') {
            (_, false) => plain.push(letter),
            (_, true) => match letters.next() {
                Some('t') if letter == '\\' => plain.push('\t'),
                next => plain.extend(next),
            },
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::environment;

    #[test]
    fn the_environment_is_what_a_service_manager_would_set() {
        let text = "# Written.\n[Manager]\nDefaultEnvironment=\"A=1\"\nDefaultEnvironment=\"B=say \\\"hi\\\" \\\\ 100%% \\tx\"\nOther=\"C=1\"\n";
        let read: Vec<(String, String)> = environment(text).into_iter().collect();
        let expected = [("A", "1"), ("B", "say \"hi\" \\ 100% \tx")];
        assert_eq!(read, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
