//! `gpu`, `gpu fit` and `gpu doctor`: every view, every exit code, and whatever a driver may say.

use insta::assert_snapshot;
use nixmox_api::{
    AgentError, Gpu, GpuDoctorReply, GpuFault, GpuFitReply, GpuInventory, GpuLayer, GpuRoom, GpuYield, GpusReply,
};
use serde_json::json;

use crate::render::width;
use crate::testing::{Agent, Place, Script, gpus, sample};

fn agent(reply: &GpusReply) -> Agent {
    Agent::start(Script::default().reply("Gpus", reply))
}

/// Returns what `gpu` says on a terminal of 80 columns.
fn shown(reply: &GpusReply) -> String {
    let agent = agent(reply);
    let ran = Place::with(&agent).on_terminal(80).run("gpu");
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    ran.out
}

fn fault(vendor: Option<&str>, kind: &str, message: &str) -> GpuFault {
    GpuFault { vendor: vendor.map(str::to_owned), kind: kind.to_owned(), message: message.to_owned() }
}

#[test]
fn a_bar_shows_whose_the_memory_is_and_what_waits_stands_below() {
    assert_snapshot!(shown(&gpus::reply()));
}

#[test]
fn where_there_is_nothing_but_ascii_the_same_is_drawn_in_it() {
    let reply = gpus::reply();
    let agent = agent(&reply);
    let place = Place { is_ascii: true, ..Place::with(&agent).on_terminal(80) };
    let ran = place.run("gpu");
    assert!(ran.out.is_ascii(), "{}", ran.out);
    let lengths = |text: &str| text.lines().map(width).collect::<Vec<_>>();
    assert_eq!(lengths(&ran.out), lengths(&shown(&reply)));
    assert_snapshot!(ran.out);
}

#[test]
fn colours_only_add_to_what_is_said() {
    use crate::render::{Style, gpu, plain};
    let moment = crate::context::Moment { at_usec: sample::NOW * 1_000_000, zone: jiff::tz::TimeZone::UTC };
    let text = gpu::overview(&gpus::reply(), &moment, Some(80), Style::new(true));
    assert!(text.contains("\x1b[32m█"), "{text:?}");
    assert_eq!(plain(&text), shown(&gpus::reply()));
}

#[test]
fn without_a_gpu_that_is_what_is_said() {
    assert_eq!(shown(&GpusReply::default()), "no GPU in this machine\n");
    let waits = gpus::service("whisper", "waiting", &[], None);
    let reply = GpusReply { services: vec![waits], ..GpusReply::default() };
    assert_eq!(shown(&reply), "no GPU in this machine\n\n… whisper waits\n");
}

#[test]
fn every_fault_is_told_with_its_meaning_and_a_way_out() {
    let kinds =
        ["no_library", "no_driver", "mismatch", "hangs", "crashed", "rubbish", "failed", "of a later agent"];
    let faults = kinds.map(|kind| fault(Some("nvidia"), kind, "nvmlInit_v2: what it said")).into();
    let faults = [faults, vec![fault(None, "hangs", "no answer within 5 s")]].concat();
    let inventory = GpuInventory { faults, ..GpuInventory::default() };
    let text = shown(&GpusReply { inventory, ..GpusReply::default() });
    assert!(!text.contains("no GPU in this machine"), "nobody knows: {text}");
    assert_snapshot!(text);
}

#[test]
fn a_look_that_is_old_is_told_as_that() {
    let reply = GpusReply { at_usec: (sample::NOW - 200) * 1_000_000, ..gpus::reply() };
    assert!(shown(&reply).starts_with("as of 3m ago\n"), "{}", shown(&reply));
    let reply = GpusReply { at_usec: (sample::NOW - 2) * 1_000_000, ..gpus::reply() };
    assert!(!shown(&reply).contains("as of"));
}

#[test]
fn what_a_driver_says_steers_no_terminal_and_breaks_no_line() {
    let mut reply = gpus::reply();
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[2J\r\n\u{202e}日本語".repeat(9);
    for gpu in &mut reply.inventory.gpus {
        gpu.name.clone_from(&evil);
        gpu.id = format!("GPU-{evil}{}", gpu.index);
        gpu.throttle = vec![evil.clone()];
        gpu.nodes = vec![gpus::node(&evil, "missing"), gpus::node(&evil, &evil)];
        gpu.processes.push(gpus::process(None, Some(&evil), Some(1 << 30)));
        gpu.temperature = Some(u32::MAX);
        (gpu.power, gpu.power_limit) = (Some(u32::MAX), Some(0));
        gpu.utilization = Some(u32::MAX);
    }
    for driver in &mut reply.inventory.drivers {
        (driver.module, driver.cuda) = (Some(evil.clone()), Some(evil.clone()));
    }
    for service in &mut reply.services {
        (service.reason, service.hint, service.state) = (evil.clone(), evil.clone(), evil.clone());
    }
    reply.inventory.faults = vec![fault(Some(&evil), &evil, &evil)];
    for columns in [20, 33, 80, 200] {
        let agent = agent(&reply);
        let ran = Place::with(&agent).on_terminal(columns).run("gpu");
        assert_eq!(ran.code, 0);
        assert!(!ran.out.contains(['\u{1b}', '\u{7}', '\r', '\u{202e}']), "{:?}", ran.out);
        for line in ran.out.lines() {
            assert!(width(line) <= columns, "{columns}: {} columns: {line}", width(line));
        }
    }
}

#[test]
fn figures_that_cannot_be_true_draw_a_bar_all_the_same() {
    let of = |total, reserved, used, memory| Gpu {
        memory_total: total,
        memory_reserved: reserved,
        memory_used: used,
        processes: vec![
            gpus::process(Some("ollama"), None, memory),
            gpus::process(None, Some("x.service"), memory),
        ],
        ..gpus::gpu(0, "GPU-a")
    };
    let max = Some(u64::MAX);
    for (index, gpu) in [
        of(Some(0), Some(0), Some(0), None),
        of(max, max, max, max),
        of(Some(1), max, Some(0), Some(7)),
        of(Some(12 << 30), None, None, None),
        of(None, Some(1), Some(1), Some(1)),
    ]
    .into_iter()
    .enumerate()
    {
        let huge = GpuRoom {
            id: "GPU-a".to_owned(),
            total: 5,
            promised: u64::MAX,
            others: u64::MAX,
            ..GpuRoom::default()
        };
        for rooms in [Vec::new(), vec![huge]] {
            let inventory = GpuInventory { gpus: vec![gpu.clone()], ..GpuInventory::default() };
            let services = vec![gpus::service("ollama", "granted", &["GPU-a"], max)];
            let text = shown(&GpusReply { inventory, rooms, services, ..GpusReply::default() });
            assert!(text.lines().all(|line| width(line) <= 80), "{index}: {text}");
            assert!(text.starts_with("GPU 0  NVIDIA GPU   GPU-a\n"), "{index}: {text}");
        }
    }
}

#[test]
fn sixty_four_gpus_are_told_one_after_the_other() {
    let mut reply = gpus::reply();
    let first = reply.inventory.gpus.remove(0);
    let gpu = |index| Gpu { index, id: format!("GPU-{index:08x}-93be"), nodes: Vec::new(), ..first.clone() };
    reply.inventory.gpus = (0..64).map(gpu).collect();
    let text = shown(&reply);
    for index in 0..64 {
        assert!(
            text.contains(&format!("GPU {index}  NVIDIA GeForce RTX 3060   GPU-{index:08x}\n")),
            "{index}: {text}"
        );
    }
    assert!(text.lines().all(|line| width(line) <= 80), "{text}");
}

#[test]
fn programs_get_what_the_agent_said() {
    let reply = gpus::reply();
    let agent = agent(&reply);
    let ran = Place::with(&agent).run("gpu --json");
    assert_eq!(serde_json::from_str::<GpusReply>(&ran.out).unwrap(), reply);
    assert_eq!(ran.out.lines().count(), 1);
    assert_eq!(Place::with(&agent).run("gpu -s cloud").code, 2, "GPUs are of no stack");
}

#[test]
fn an_agent_that_knows_nothing_of_gpus_is_named_as_the_cause() {
    let agent = Agent::start(Script::default().unknown("Gpus").version("0.0.9"));
    let ran = Place::with(&agent).run("gpu");
    assert!(ran.code == 1 && ran.err.contains("0.0.9"), "{ran:?}");
}

fn answer(outcome: &str) -> GpuFitReply {
    let reply = gpus::reply();
    GpuFitReply { outcome: outcome.to_owned(), rooms: reply.rooms, ..GpuFitReply::default() }
}

fn fit(reply: &GpuFitReply, arguments: &str) -> (u8, String, Vec<serde_json::Value>) {
    let agent = Agent::start(Script::default().reply("GpuFit", reply).reply("Gpus", &gpus::reply()));
    let ran = Place::with(&agent).on_terminal(80).run(arguments);
    let text = ran.told(agent.folder());
    (ran.code, text, agent.calls("GpuFit"))
}

#[test]
fn what_fits_is_told_with_where_and_how_much() {
    let first = gpus::reply().inventory.gpus[0].id.clone();
    let fits = GpuFitReply { gpus: vec![first], budget: Some(1 << 30), ..answer("fits") };
    let (_, text, calls) = fit(&fits, "gpu fit whisper");
    assert_eq!(calls, [json!({ "request": { "name": "whisper", "share": null } })]);
    assert_snapshot!(text);
}

#[test]
fn who_would_be_stopped_is_told_with_what_comes_free() {
    let yields = GpuYield { name: "jellyfin".to_owned(), priority: 20, memory: 512 << 20 };
    let reply = GpuFitReply {
        gpus: vec!["MIG-77aa1b2c-93be-4b4e-a3a5-9a4c27d3c7a1".to_owned(), "0000:c5:00.0".to_owned()],
        yields: vec![yields.clone(), GpuYield { name: "ollama".to_owned(), memory: 5 << 30, ..yields }],
        ..answer("yields")
    };
    let (code, text, _) = fit(&reply, "gpu fit whisper llama");
    assert_eq!(code, 0);
    assert_snapshot!(text);
}

#[test]
fn who_gives_memory_back_is_told_apart_from_who_would_be_stopped() {
    let gives = GpuYield { name: "llm".to_owned(), priority: 20, memory: 7475 << 20 };
    let reply = GpuFitReply { gives: vec![gives.clone()], ..answer("yields") };
    let (code, text, _) = fit(&reply, "gpu fit whisper");
    assert_eq!(code, 0);
    assert_snapshot!(text);
    let both = GpuFitReply { yields: vec![GpuYield { name: "jellyfin".to_owned(), ..gives }], ..reply };
    let (_, text, _) = fit(&both, "gpu fit whisper");
    assert!(text.contains("others would be stopped") && text.contains("runs on"), "{text}");
}

#[test]
fn what_does_not_fit_is_told_with_the_numbers_and_fails() {
    let reply = GpuFitReply {
        reason: "it needs 8G of one GPU, and the most that is free is 2.4G, of GPU 0".to_owned(),
        hint: "give it a priority above 50, or vram_min of 2G".to_owned(),
        ..answer("waits")
    };
    let (code, text, calls) = fit(&reply, "gpu fit --vram 8G --vram-min 4G --priority 80 --devices 2 --vendor amd");
    let share = json!({ "vendor": "amd", "all": false, "count": 2, "ids": [], "vram": 8_u64 << 30, "vram_min": 4_u64 << 30,
                        "priority": 80 });
    assert_eq!(calls, [json!({ "request": { "name": null, "share": share } })]);
    assert_eq!(code, 1);
    assert_snapshot!(text);
    assert_eq!(fit(&answer("never"), "gpu fit whisper").0, 1);
    assert_eq!(fit(&answer("of a later agent"), "gpu fit whisper").0, 1);
}

#[test]
fn a_share_that_is_made_up_is_as_the_manifest_has_it() {
    let share = |arguments: &str| fit(&answer("fits"), arguments).2[0]["request"]["share"].clone();
    let of_one = json!({ "vendor": null, "all": false, "count": 1, "ids": [], "vram": 1 << 20, "vram_min": null,
                         "priority": 50 });
    assert_eq!(share("gpu fit --vram 1M"), of_one);
    assert_eq!(share("gpu fit --vram 1M --devices all")["all"], json!(true));
    assert_eq!(share("gpu fit --devices GPU-5a,0000:c5:00.0")["ids"], json!(["GPU-5a", "0000:c5:00.0"]));
    for wrong in [
        "gpu fit",
        "gpu fit whisper --vram 1G",
        "gpu fit --vram-min 1G",
        "gpu fit --vram 1G --vram-min 2G",
        "gpu fit --vram much",
        "gpu fit --vram 1G --priority 101",
        "gpu fit --devices 0",
        "gpu fit --vendor matrox",
    ] {
        let (code, _, calls) = fit(&answer("fits"), wrong);
        assert!(code == 2 && calls.is_empty(), "{wrong}");
    }
}

#[test]
fn programs_get_an_answer_for_each_name() {
    let agent = Agent::start(Script::default().reply("GpuFit", &answer("waits")));
    let ran = Place::with(&agent).run("gpu fit whisper llama --json");
    let replies = ran.out.lines().map(|line| serde_json::from_str::<GpuFitReply>(line).unwrap());
    assert_eq!(replies.collect::<Vec<_>>(), [answer("waits"), answer("waits")]);
    assert_eq!(ran.code, 1);
}

#[test]
fn a_service_that_nobody_knows_is_complained_about() {
    let unknown =
        AgentError::UnknownService { name: "whispr".to_owned(), hint: "did you mean `whisper`?".to_owned() };
    let agent = Agent::start(Script::default().refuse("GpuFit", &unknown).refuse("GpuDoctor", &unknown));
    for arguments in ["gpu fit whispr", "gpu doctor whispr"] {
        let ran = Place::with(&agent).run(arguments);
        assert!(ran.code == 1 && ran.out.is_empty() && ran.err.contains("did you mean `whisper`?"), "{ran:?}");
    }
}

fn layer(service: Option<&str>, layer: &str, outcome: &str, found: &str, remedy: &str) -> GpuLayer {
    GpuLayer {
        service: service.map(str::to_owned),
        layer: layer.to_owned(),
        outcome: outcome.to_owned(),
        found: found.to_owned(),
        remedy: remedy.to_owned(),
    }
}

fn layers() -> Vec<GpuLayer> {
    let stale =
        "/dev/nvidia-uvm is 511:0, and the kernel has 510:0 for it: the module was loaded anew since it was made";
    vec![
        layer(None, "module", "ok", "nvidia 570.86.16 is loaded", ""),
        layer(None, "node", "ok", "/dev/nvidia0, /dev/nvidiactl, /dev/nvidia-uvm", ""),
        layer(None, "number", "failed", stale, "rm /dev/nvidia-uvm; nvidia-modprobe -u -c=0"),
        layer(None, "version", "skipped", "an earlier layer fails", ""),
        layer(
            None,
            "cdi",
            "warning",
            "/etc/cdi/nvidia.yaml names /dev/nvidia4, which is not there",
            "nvidia-ctk cdi generate",
        ),
        layer(Some("jellyfin"), "bound", "ok", "/dev/nvidia0", ""),
        layer(Some("jellyfin"), "open", "failed", "the device rules refuse /dev/nvidia-uvm (EPERM)", ""),
        layer(Some("ollama"), "process", "skipped", "", ""),
        layer(
            Some("ollama"),
            "models",
            "warning",
            "llama3.1:8b: it is on the CPU, 5.9G in all, though 8G of the budget are free",
            "it is loaded again with more layers",
        ),
    ]
}

fn doctor(layers: Vec<GpuLayer>, arguments: &str) -> (Agent, crate::testing::Ran) {
    let agent = Agent::start(Script::default().reply("GpuDoctor", &GpuDoctorReply { layers }));
    let ran = Place::with(&agent).on_terminal(80).run(arguments);
    (agent, ran)
}

#[test]
fn the_doctor_tells_layer_by_layer_and_names_the_first_that_fails_last() {
    let (agent, ran) = doctor(layers(), "gpu doctor");
    assert_eq!(agent.calls("GpuDoctor"), [json!({})]);
    assert_snapshot!(ran.told(agent.folder()));
    let ascii = Place { is_ascii: true, ..Place::with(&agent).on_terminal(80) }.run("gpu doctor");
    assert!(ascii.out.is_ascii() && ascii.out.contains("  x device numbers"), "{}", ascii.out);
}

#[test]
fn where_nothing_fails_the_doctor_says_so() {
    let well = |outcome: &str| {
        vec![layer(None, "module", "ok", "nvidia is loaded", ""), layer(None, "cdi", outcome, "x", "")]
    };
    for (layers, last) in [
        (well("skipped"), "nothing fails"),
        (well("warning"), "nothing fails; 1 warning"),
        (Vec::new(), "nothing to look at: no GPU in this machine, and no service that has one"),
    ] {
        let (agent, ran) = doctor(layers, "gpu doctor jellyfin");
        assert_eq!((ran.code, ran.out.lines().last()), (0, Some(last)), "{}", ran.out);
        assert_eq!(agent.calls("GpuDoctor"), [json!({ "name": "jellyfin" })]);
    }
}

#[test]
fn a_program_learns_of_a_failed_layer_by_the_exit_code_too() {
    let (_, ran) = doctor(layers(), "gpu doctor --json");
    assert_eq!(serde_json::from_str::<GpuDoctorReply>(&ran.out).unwrap().layers, layers());
    assert_eq!(ran.code, 1);
}

#[test]
fn what_a_guest_has_made_up_steers_no_terminal() {
    let evil = "\u{1b}[2J\r\u{202e}日本語".repeat(20);
    let (_, ran) = doctor(vec![layer(Some(&evil), &evil, "failed", &evil, &evil)], "gpu doctor");
    assert!(!ran.out.contains(['\u{1b}', '\r', '\u{202e}']), "{:?}", ran.out);
}
