//! Estimates against llama.cpp itself: the real `llama-fit-params` on GPUs that are none.

use std::path::{Path, PathBuf};
use std::process::Command;

use nixmox_core::offload::estimate::KvType;
use nixmox_core::offload::estimate::fit::fit;
use nixmox_core::offload::estimate::llama_cpp::{Build, Measure, Placement, Setup};
use nixmox_tests::models::{Shape, known, shapes};

#[test]
fn dev() {
    let dir = tempfile::tempdir().unwrap();
    let only = std::env::var("ONLY").unwrap_or_default();
    for shape in shapes() {
        if !shape.name.contains(&only) {
            continue;
        }
        let path = dir.path().join("m.gguf");
        shape.write(&path).unwrap();
        let model = shape.model();
        for fa in [true, false] {
            for (c, np, k) in [(2048, 1, "f16"), (16384, 1, "f16"), (4096, 2, "f16"), (8192, 1, "q8_0")] {
                if k != "f16" && !fa {
                    continue;
                }
                for ngl in [99u32, 7, 1, 0] {
                    let mut setup = Setup {
                        context: c,
                        sequences: np,
                        batch: 512,
                        outputs: 512,
                        keys: KvType::from_word(k).unwrap(),
                        values: KvType::from_word(k).unwrap(),
                        flash_attention: fa,
                        build: Build::of(None),
                    };
                    setup.build = Build::of(None);
                    let out = run(
                        &path,
                        &[
                            "-c",
                            &(c * np).to_string(),
                            "-np",
                            &np.to_string(),
                            "-ctk",
                            k,
                            "-ctv",
                            k,
                            "-fa",
                            if fa { "on" } else { "off" },
                            "-ngl",
                            &ngl.to_string(),
                            "--fit-print",
                            "on",
                        ],
                        "90000",
                    );
                    let m = Measure::new(&model, setup);
                    let p = Placement::of(m.layers(), ngl as usize, &[1], true);
                    let t = m.take(&p);
                    let mib = |b: nixmox_core::model::Bytes| b.0 as f64 / 1048576.0;
                    let g = t.gpus[0];
                    let h = t.host;
                    let want: Vec<Vec<i64>> = out
                        .lines()
                        .filter(|l| l.starts_with("CUDA0 ") || l.starts_with("Host "))
                        .map(|l| l.split_whitespace().skip(1).map(|x| x.parse().unwrap()).collect())
                        .collect();
                    let log = |n: &str| {
                        out.lines()
                            .find(|l| l.contains(&format!("{n} compute buffer size")))
                            .map(|l| l.rsplit("=").next().unwrap().trim().to_owned())
                            .unwrap_or_default()
                    };
                    if want.len() != 2 {
                        println!("{} FAILED {}", shape.name, &out[out.len().saturating_sub(300)..]);
                        continue;
                    }
                    let bad = |a: i64, b: f64| (a as f64 - b.floor()).abs() > 0.02 * (a as f64) + 1.0;
                    let marks = format!(
                        "{}{}{} {}{}{}",
                        if bad(want[0][0], mib(g.weights)) { "W" } else { "." },
                        if bad(want[0][1], mib(g.cache)) { "C" } else { "." },
                        if bad(want[0][2], mib(g.compute)) { "X" } else { "." },
                        if bad(want[1][0], mib(h.weights)) { "W" } else { "." },
                        if bad(want[1][1], mib(h.cache)) { "C" } else { "." },
                        if bad(want[1][2], mib(h.compute)) { "X" } else { "." }
                    );
                    println!(
                        "{marks} {} fa={fa} c={c} np={np} k={k} ngl={ngl}: want {:?} ({} {}) got [{:.0} {:.0} {:.2}] [{:.0} {:.0} {:.2}]",
                        shape.name,
                        want,
                        log("CUDA0"),
                        log("CUDA_Host"),
                        mib(g.weights),
                        mib(g.cache),
                        mib(g.compute),
                        mib(h.weights),
                        mib(h.cache),
                        mib(h.compute)
                    );
                }
            }
        }
    }
}

fn run(path: &Path, args: &[&str], gpus: &str) -> String {
    let n = gpus.split(',').count();
    let devs: Vec<String> = (0..n).map(|i| format!("CUDA{i}")).collect();
    let out = Command::new("/tmp/llama/dyn/llama-fit-params")
        .env("GGML_BACKEND_PATH", "/tmp/llama/fake/libfake-gpus.so")
        .env("FAKE_GPUS", gpus)
        .args(["--device", &devs.join(","), "--no-repack", "-v", "-m"])
        .arg(path)
        .args(args)
        .output()
        .unwrap();
    format!("{}\n{}", String::from_utf8_lossy(&out.stderr), String::from_utf8_lossy(&out.stdout))
}

#[test]
fn fits() {
    let dir = tempfile::tempdir().unwrap();
    let only = std::env::var("ONLY").unwrap_or_default();
    let (mut same, mut all) = (0, 0);
    for shape in known() {
        if !shape.name.contains(&only) {
            continue;
        }
        let path = dir.path().join("m.gguf");
        shape.write(&path).unwrap();
        let model = shape.model();
        let total: u64 = model.weights() / (1 << 20);
        for gpus in 1..=2u64 {
            for part in [20, 45, 70, 95] {
                for c in [0u64, 8192] {
                    let rooms: Vec<u64> =
                        (0..gpus).map(|i| total * part / 100 / gpus * (2 + i) / 2 + 1024).collect();
                    let list: Vec<String> = rooms.iter().map(|r| r.to_string()).collect();
                    let mut args = vec![];
                    let cs = c.to_string();
                    if c > 0 {
                        args.extend(["-c", &cs]);
                    }
                    let out = run(&path, &args, &list.join(","));
                    let want = out.lines().rev().find(|l| l.starts_with("-c ")).unwrap_or("").to_owned();
                    let setup = Setup {
                        context: if c == 0 { shape.context } else { c },
                        sequences: 1,
                        batch: 512,
                        outputs: 512,
                        keys: KvType::F16,
                        values: KvType::F16,
                        flash_attention: true,
                        build: Build::of(None),
                    };
                    let fitted =
                        fit(&model, &setup, &rooms.iter().map(|r| (r - 1024) << 20).collect::<Vec<_>>(), c == 0);
                    let num = |flag: &str| {
                        want.split_whitespace()
                            .skip_while(|w| *w != flag)
                            .nth(1)
                            .and_then(|w| w.parse::<i64>().ok())
                            .unwrap_or(-2)
                    };
                    let (wc, mut wl) = (num("-c"), num("-ngl"));
                    if wl == -1 {
                        wl = shape.layers as i64 + 1;
                    }
                    let wc = if wc == 0 { shape.context as i64 } else { wc };
                    let ok = wc == fitted.context as i64 && wl == i64::from(fitted.placement.on_gpus());
                    all += 1;
                    if ok {
                        same += 1;
                    }
                    println!(
                        "{} {} rooms {list:?} c={c}: want {} got c {} ngl {} {:?}",
                        if ok { "ok" } else { "BAD" },
                        shape.name,
                        want.chars().take(60).collect::<String>(),
                        fitted.context,
                        fitted.placement.on_gpus(),
                        if ok {
                            String::new()
                        } else {
                            format!(
                                "{:?}",
                                out.lines()
                                    .filter(|l| l.contains("layers") && l.contains("used,"))
                                    .map(|l| l.rsplit("impl:").next().unwrap().to_owned())
                                    .collect::<Vec<_>>()
                            )
                        }
                    );
                }
            }
        }
    }
    println!("{same} of {all}");
}
