//! What a guest does to GPUs that are not there: it holds their memory, by files that the host's side reads, and runs a simulator of
//! Ollama in a process of its own, as the real one is.

use std::{
    env, fs,
    net::TcpListener,
    path::Path,
    process::{self, Command},
};

use nixmox_fake_ollama::{Config, Engine, Gpus as _, Held, Inside, compose_for_ever, serve};

use crate::{behaviour::Behaviour, environment};

/// Where the host's side looks for files of a guest, as inside.
const FOLDER: &str = "/var/lib/guest/gpu";

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
    let config = Config::parse(config)?.with_environment(environment::of_services());
    let port: u16 = port.parse().map_err(|_| format!("{port} is no port"))?;
    let gpus = Inside::open(FOLDER.into(), "/dev".into())?;
    let listener =
        TcpListener::bind(("0.0.0.0", port)).map_err(|error| format!("cannot listen on {port}: {error}"))?;
    let engine = Engine::start(config, Box::new(gpus), &["/proc/self/exe", "idle"]);
    serve(&listener, &engine).map_err(|error| error.to_string())
}
