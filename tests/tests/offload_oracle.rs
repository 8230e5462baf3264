//! Estimates against llama.cpp itself: the real `llama-fit-params` on GPUs that are none, and the real `llama-server`.
#![allow(clippy::unwrap_used, clippy::cast_precision_loss, reason = "figures of tests are small")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nixmox_core::model::Bytes;
use nixmox_core::offload::estimate::KvType;
use nixmox_core::offload::estimate::fit::fit;
use nixmox_core::offload::estimate::llama_cpp::{Build, Measure, Placement, Setup};
use nixmox_core::offload::gguf;
use nixmox_core::offload::model::Model;
use nixmox_testbed::llama_cpp;
use nixmox_tests::gguf::{Architecture, Recipe};
use nixmox_tests::models::{others, shapes, write};

/// What `--fit` leaves free of each GPU, in MiB.
const TARGET: u64 = 1024;

/// Architectures of models that are built otherwise which are compared in more settings, and by `--fit`.
const OTHERWISE: [&str; 5] = ["bailingmoe2", "cohere2", "gemma4", "granitemoe", "lfm2moe"];

fn mib(bytes: Bytes) -> i64 {
    i64::try_from(bytes.0 >> 20).unwrap()
}

fn setup(context: u64, sequences: u64, kind: KvType, flash_attention: bool) -> Setup {
    let build = Build::of(None);
    Setup {
        context,
        sequences,
        slots: 1,
        batch: 512,
        outputs: 512,
        keys: kind,
        values: kind,
        flash_attention,
        build,
    }
}

/// Runs `llama-fit-params` on GPUs with so many MiB each, and returns its standard output.
fn fit_params(programs: &Path, model: &Path, gpus: &[u64], arguments: &[&str]) -> String {
    let devices: Vec<String> = (0..gpus.len()).map(|gpu| format!("CUDA{gpu}")).collect();
    let mut command = Command::new(programs.join("llama-fit-params"));
    command.env("GGML_BACKEND_PATH", programs.join("libfake-gpus.so"));
    command.env("FAKE_GPUS", gpus.iter().map(u64::to_string).collect::<Vec<_>>().join(","));
    command.args(["--device", &devices.join(","), "--no-repack", "--model"]).arg(model).args(arguments);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A placement: what is compared of it.
struct Compared {
    what: String,
    /// Weights, cache and compute buffers in MiB: of the GPU, and of the host.
    said: [i64; 6],
    real: [i64; 6],
}

fn compare(programs: &Path, path: &Path, name: &str, model: &Model, setup: &Setup, layers: usize) -> Compared {
    let context = (setup.context * setup.sequences).to_string();
    let sequences = setup.sequences.to_string();
    let (kind, layers_text) = (setup.keys.as_word(), layers.to_string());
    let attention = if setup.flash_attention { "on" } else { "off" };
    let arguments =
        ["-c", &context, "-np", &sequences, "-ctk", kind, "-ctv", kind, "-fa", attention, "-ngl", &layers_text];
    let said = fit_params(programs, path, &[90_000], &[&arguments[..], &["--fit-print", "on"]].concat());
    let real: Vec<i64> = said
        .lines()
        .filter(|line| line.starts_with("CUDA0 ") || line.starts_with("Host "))
        .flat_map(|line| {
            line.split_whitespace().skip(1).map(|number| number.parse().unwrap()).collect::<Vec<i64>>()
        })
        .collect();
    let measure = Measure::new(model, setup.clone());
    let measured = measure.take(&Placement::of(measure.layers(), layers, &[1], true));
    let (gpu, host) = (measured.gpus[0], measured.host);
    Compared {
        what: format!("{name} {}", arguments.join(" ")),
        said: [gpu.weights, gpu.cache, gpu.compute, host.weights, host.cache, host.compute].map(mib),
        real: real.try_into().unwrap_or_else(|real| panic!("{real:?} of {said}")),
    }
}

/// Whether parts are alike; both are cut to whole MiB.
fn is_close(one: &Compared, parts: &[usize]) -> bool {
    parts.iter().all(|part| (one.said[*part] - one.real[*part]).abs() <= 1)
}

#[test]
fn weights_states_and_caches_of_models_that_are_built_unlike_the_usual_are_what_the_real_llama_cpp_says() {
    let programs = llama_cpp().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let mut all = Vec::new();
    for other in others() {
        other.write(&path).unwrap();
        let model = other.model();
        for (context, sequences) in [(2048, 1), (16_384, 1), (8192, 2)] {
            for layers in [99, 5, 1, 0] {
                let setup = setup(context, sequences, KvType::F16, true);
                all.push(compare(&programs, &path, other.architecture, &model, &setup, layers));
            }
        }
        if OTHERWISE.contains(&other.architecture) {
            for (sequences, kind, flash_attention) in [(1, KvType::Q8_0, true), (2, KvType::F16, false)] {
                for layers in [99, 5, 0] {
                    let setup = setup(4096, sequences, kind, flash_attention);
                    all.push(compare(&programs, &path, other.architecture, &model, &setup, layers));
                }
            }
        }
    }
    for one in &all {
        println!(
            "{}{}: {:?}, not {:?}",
            if is_close(one, &[0, 1, 3, 4]) { "" } else { "! " },
            one.what,
            one.said,
            one.real
        );
    }
    assert!(all.iter().all(|one| is_close(one, &[0, 1, 3, 4])), "weights and caches are exact");
    let sum = |six: &[i64; 6]| six[..3].iter().sum::<i64>() as f64;
    let far = |part: f64| {
        let is_far = |one: &&Compared| (sum(&one.said) - sum(&one.real)).abs() > sum(&one.real) * part;
        all.iter().filter(is_far).count()
    };
    let exact = all.iter().filter(|one| is_close(one, &[2, 5])).count();
    println!(
        "{exact} of {} compute buffers are exact; a GPU is off by 5 % in {}, by 15 % in {}",
        all.len(),
        far(0.05),
        far(0.15)
    );
    let reached = (all.len(), exact, far(0.05), far(0.15));
    assert!(reached == (606, 602, 1, 0), "{reached:?}");
}

#[test]
fn what_a_placement_takes_is_what_the_real_llama_cpp_says() {
    let programs = llama_cpp().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let mut all = Vec::new();
    for shape in shapes() {
        shape.write(&path).unwrap();
        let model = shape.model();
        for (context, sequences, kind) in
            [(2048, 1, KvType::F16), (16_384, 1, KvType::F16), (4096, 2, KvType::F16), (8192, 1, KvType::Q8_0)]
        {
            for flash_attention in [true, false] {
                // Values that are quantised need attention in one pass.
                if flash_attention || kind == KvType::F16 {
                    for layers in [99, 7, 1, 0] {
                        let setup = setup(context, sequences, kind, flash_attention);
                        all.push(compare(&programs, &path, shape.name, &model, &setup, layers));
                    }
                }
            }
        }
    }
    for one in all.iter().filter(|one| !is_close(one, &[0, 1, 2, 3, 4, 5])) {
        println!("{}: {:?}, not {:?}", one.what, one.said, one.real);
    }
    assert!(all.iter().all(|one| is_close(one, &[0, 1, 3, 4])), "weights and caches are exact");
    let exact = all.iter().filter(|one| is_close(one, &[2, 5])).count();
    let sum = |six: &[i64; 6]| six[..3].iter().sum::<i64>() as f64;
    let far = all.iter().filter(|one| (sum(&one.said) - sum(&one.real)).abs() > sum(&one.real) * 0.05).count();
    println!(
        "{exact} of {} compute buffers are exact; all of a GPU's memory is off by more than 5 % in {far}",
        all.len()
    );
    assert!(exact + 2 >= all.len(), "{exact} of {}", all.len());
    assert!(far == 0, "{far} of {}", all.len());
}

#[test]
fn the_placement_that_fit_makes_is_the_one_that_the_real_one_makes() {
    let programs = llama_cpp().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let (mut same, mut all, mut off) = (0, 0, Vec::new());
    let usual = shapes().into_iter().map(|shape| (shape.name, shape.layers, shape.context, shape.header()));
    let otherwise = others().into_iter().filter(|other| OTHERWISE.contains(&other.architecture));
    let otherwise = otherwise.map(|other| (other.architecture, other.layers, 32_768, other.header));
    for (name, repeating, trained, header) in usual.chain(otherwise) {
        write(&header, &path).unwrap();
        let model = Model::of(std::slice::from_ref(&header)).unwrap();
        let weights = model.weights() >> 20;
        for (gpus, part, context) in
            [(1, 30, 0), (1, 60, 8192), (1, 90, 0), (1, 45, 4096), (2, 40, 8192), (2, 75, 8192)]
        {
            let rooms: Vec<u64> =
                (0..gpus).map(|gpu| weights * part / 100 / gpus * (2 + gpu) / 2 + TARGET).collect();
            let text = context.to_string();
            let arguments: &[&str] = if context == 0 { &[] } else { &["-c", &text] };
            let said = fit_params(&programs, &path, &rooms, arguments);
            let number = |flag: &str| {
                let mut words = said.split_whitespace().skip_while(|word| *word != flag);
                words
                    .nth(1)
                    .and_then(|word| word.parse::<i64>().ok())
                    .unwrap_or_else(|| panic!("no {flag} in {said}"))
            };
            let layers = if number("-ngl") < 0 { i64::try_from(repeating).unwrap() + 1 } else { number("-ngl") };
            let asked = if context == 0 { trained } else { context };
            let real = (if number("-c") == 0 { i64::try_from(asked).unwrap() } else { number("-c") }, layers);
            let usable: Vec<u64> = rooms.iter().map(|room| (room - TARGET) << 20).collect();
            let fitted = fit(&model, &setup(asked, 1, KvType::F16, true), &usable, context == 0);
            let ours = (i64::try_from(fitted.context).unwrap(), i64::from(fitted.placement.on_gpus()));
            all += 1;
            same += usize::from(ours == real);
            off.push((ours.1 - real.1).abs());
            if ours != real {
                println!("{name} on {rooms:?}: {ours:?}, not {real:?}");
            }
        }
    }
    println!("{same} of {all} are the same");
    assert!(same == all, "{same} of {all}");
    assert!(off.iter().all(|layers| *layers <= 1), "never off by more than a layer");
}

/// Starts the real `llama-server` with a model, and returns MiB of all caches and of the compute buffer as it logs them.
fn logged(programs: &Path, path: &Path, arguments: &[&str]) -> [f64; 2] {
    let mut server = Command::new(programs.join("llama-server"))
        .args(arguments)
        .args(["-fit", "off", "-fa", "on", "--port", "0", "-v", "--no-repack", "--model"])
        .arg(path)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut cache, mut compute) = (0.0, 0.0);
    for line in BufReader::new(server.stderr.take().unwrap()).lines().map_while(Result::ok) {
        let figure = |line: &str| {
            line.rsplit('=').next().and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok())
        };
        if line.contains("KV buffer size") {
            cache += figure(&line).unwrap();
        } else if line.contains("compute buffer size") {
            compute = figure(&line).unwrap();
            break;
        }
    }
    server.kill().unwrap();
    server.wait().unwrap();
    [cache, compute]
}

#[test]
fn what_a_model_takes_is_what_the_real_server_logs() {
    let programs = llama_cpp().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let windowed = Recipe { architecture: Architecture::Gemma3, layers: 12, ..Recipe::default() };
    // Where nothing is said, four slots share the context.
    for (name, recipe, context, (arguments, slots)) in [
        ("tiny", Recipe::default(), 512, (&["-np", "1"][..], 1)),
        ("one", windowed.clone(), 16_384, (&["-np", "1"], 1)),
        ("shared", windowed, 16_384, (&[], 4)),
    ] {
        let paths: Vec<PathBuf> = recipe.write(folder.path(), name).unwrap();
        let heads = recipe.heads().unwrap();
        let headers: Vec<gguf::Header> = heads.iter().map(|bytes| gguf::read(&mut &bytes[..]).unwrap()).collect();
        let model = Model::of(&headers).unwrap();
        let text = context.to_string();
        let [cache, compute] = logged(&programs, &paths[0], &[&["-c", &text], arguments].concat());
        let setup = Setup { outputs: slots, slots, ..setup(context, 1, KvType::F16, true) };
        let measure = Measure::new(&model, setup);
        let host = measure.take(&Placement::host(0, measure.layers())).host;
        let said = [host.cache, host.compute].map(|bytes| bytes.0 as f64 / f64::from(1 << 20));
        println!("{name}: {said:?}, logged {cache} and {compute}");
        assert!(
            (said[0] - cache).abs() < 0.02 && (said[1] - compute).abs() < 0.05,
            "{name}: {said:?}, not {cache} and {compute}"
        );
    }
}
