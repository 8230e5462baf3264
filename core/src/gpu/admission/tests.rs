//! Decisions and their reasons, by example.

use super::super::{Driver, Fault, FaultKind, Inventory, Memory, Part};
use super::world::{MIB, Service, World, card, held, id, service};
use super::{Ask, Decision, Outcome, admit, fit};
use crate::gpu::Phase;
use crate::model::fixture::name;
use crate::model::{Bytes, GpuDevices, Vendor};

/// Every decision as text.
fn told(inventory: &Inventory, world: &World) -> String {
    let told = admit(inventory, &world.claims()).into_iter().map(|(name, decision)| match decision {
        Decision::Granted(allocation) => {
            let gpus: Vec<String> = allocation.gpus.iter().map(ToString::to_string).collect();
            let budget = allocation.budget.map_or("no claim".to_owned(), |budget| budget.to_string());
            format!("{name}: granted {}, {budget}\n", gpus.join(" "))
        }
        Decision::Shrinks { why, .. } => format!("{name}: shrinks: {why}\n"),
        Decision::Waits { why, hint } if hint.is_empty() => format!("{name}: waits: {why}\n"),
        Decision::Waits { why, hint } => format!("{name}: waits: {why}\n  hint: {hint}\n"),
        Decision::Yields { to, why } => format!("{name}: yields to {to}: {why}\n"),
    });
    told.collect()
}

fn decided(cards: &[u64], services: Vec<Service>) -> String {
    let world = World { cards: cards.iter().map(|total| card(*total)).collect(), services };
    told(&world.inventory(), &world)
}

#[test]
fn who_fits_is_granted_what_it_wants_or_what_is_free() {
    insta::assert_snapshot!(decided(
        &[12 * 1024],
        vec![
            service("big", 8 * 1024, 80),
            service("small", 6 * 1024, 50).least(2 * 1024),
            service("viewer", None, 50),
        ],
    ));
}

#[test]
fn who_does_not_fit_waits_with_the_numbers() {
    let mut world = World {
        cards: vec![card(12 * 1024), card(8 * 1024)],
        services: vec![
            service("web", 6 * 1024, 80).runs(&[0], 6 * 1024).uses(&[7 * 1024]),
            service("llm", 9 * 1024, 50),
            service("pinned", 3 * 1024, 50).on(&[1]),
        ],
    };
    world.cards[0].foreign = 700;
    world.cards[1].unknown = 5 * 1024 + 1;
    insta::assert_snapshot!(told(&world.inventory(), &world));
}

#[test]
fn who_needs_more_than_there_is_never_starts_and_is_in_nobodys_way() {
    insta::assert_snapshot!(decided(
        &[8 * 1024, 4 * 1024],
        vec![
            service("huge", 8 * 1024, 100),
            service("wide", 12 * 1024, 100).on(&[0, 1]),
            service("many", 1024, 100).runs(&[], None).many(3),
            service("small", 7 * 1024, 0),
        ],
    ));
}

impl Service {
    /// It asks for so many and is down.
    fn many(mut self, count: u32) -> Self {
        self.share.devices = GpuDevices::Count(count);
        (self.holds, self.phase, self.granted) = (None, Phase::Down, false);
        self
    }

    fn seen(mut self, remembered: u64) -> Self {
        self.remembered = Some(remembered);
        self
    }
}

#[test]
fn lower_priorities_yield_and_their_room_is_kept() {
    insta::assert_snapshot!(decided(
        &[12 * 1024],
        vec![
            service("batch", 6 * 1024, 10).runs(&[0], 6 * 1024),
            service("chat", 10 * 1024, 80).least(8 * 1024),
            service("kept", 3 * 1024, 50).runs(&[0], 3 * 1024),
            service("late", 2 * 1024, 20),
        ],
    ));
}

#[test]
fn who_waits_for_what_ends_says_so() {
    let mut batch = service("batch", 6 * 1024, 10).runs(&[0], 6 * 1024);
    batch.phase = Phase::Ending;
    insta::assert_snapshot!(decided(&[8 * 1024], vec![batch, service("chat", 6 * 1024, 80)]));
}

#[test]
fn the_room_of_who_waits_for_memory_to_come_back_is_kept_and_of_who_waits_for_higher_ones_is_used() {
    let top = service("top", 6 * 1024, 80);
    let low = service("low", 1024, 10);
    let mut world = World { cards: vec![card(8 * 1024)], services: vec![top.clone(), low.clone()] };
    world.cards[0].foreign = 5 * 1024;
    let mut text = told(&world.inventory(), &world);
    text.push_str("beside a higher one\n");
    text.push_str(&decided(&[8 * 1024], vec![top, low, service("high", 5 * 1024, 90).runs(&[0], 5 * 1024)]));
    insta::assert_snapshot!(text);
}

#[test]
fn equal_priorities_do_not_yield_and_the_one_that_came_first_goes_first() {
    let mut waits = service("a", 6 * 1024, 50);
    waits.since = 7;
    insta::assert_snapshot!(decided(&[8 * 1024], vec![waits.clone(), service("b", 6 * 1024, 50)]));
    insta::assert_snapshot!(decided(&[8 * 1024], vec![waits, service("b", 6 * 1024, 50).runs(&[0], 6 * 1024)]));
}

#[test]
fn what_runs_keeps_all_when_others_grow_or_nothing_is_known() {
    let mut world = World {
        cards: vec![card(8 * 1024)],
        services: vec![service("llm", 6 * 1024, 0).runs(&[0], 6 * 1024), service("new", 1024, 100)],
    };
    world.cards[0].foreign = 7 * 1024;
    let mut text = told(&world.inventory(), &world);
    let fault = |kind, message: &str| Fault { vendor: Some(Vendor::Nvidia), kind, message: message.to_owned() };
    let blind = Inventory {
        faults: vec![fault(FaultKind::Hangs, "NVML does not answer within 5 s")],
        ..Inventory::default()
    };
    text.push_str(&told(&blind, &world));
    insta::assert_snapshot!(text);
}

#[test]
fn whose_gpus_are_meant_must_be_clear() {
    let mut world = World { cards: vec![card(8 * 1024), card(8 * 1024)], services: vec![service("any", 1024, 50)] };
    let mut inventory = world.inventory();
    inventory.gpus[1].vendor = Vendor::Amd;
    let mut text = told(&inventory, &world);
    world.services[0].share.vendor = Some(Vendor::Amd);
    text.push_str(&told(&inventory, &world));
    world.services[0].share.vendor = Some(Vendor::Intel);
    text.push_str(&told(&inventory, &world));
    // A name says whose it is.
    let mut named = service("named", 1024, 50).on(&[1]);
    world.services = vec![named.clone()];
    text.push_str(&told(&inventory, &world));
    named = named.on(&[0, 1]);
    world.services = vec![named];
    text.push_str(&told(&inventory, &world));
    // Of one that is seen beside one that is not, nobody knows whether it is the only one, where something of that is there.
    world.services = vec![service("any", 1024, 50)];
    inventory.gpus.remove(0);
    inventory.faults.push(Fault {
        vendor: Some(Vendor::Nvidia),
        kind: FaultKind::NoDriver,
        message: "NVML: the driver is not loaded (nvmlInit_v2)".to_owned(),
    });
    let granted = "any: granted GPU-1, 1G\n";
    assert_eq!(told(&inventory, &world), granted, "nothing of NVIDIA is in the machine");
    inventory.drivers.insert(Vendor::Nvidia, Driver::default());
    text.push_str(&told(&inventory, &world));
    text.push_str(&told(&Inventory::default(), &world));
    insta::assert_snapshot!(text);
}

#[test]
fn names_that_are_not_there_are_told_with_those_that_are() {
    let mut world = World { cards: vec![card(8 * 1024); 2], services: vec![service("a", 1024, 50).on(&[1, 7, 8])] };
    let mut text = told(&world.inventory(), &world);
    world.services = vec![service("a", 1024, 50).on(&[0])];
    let mut inventory = world.inventory();
    inventory.gpus[0].part = Part::Partitioned;
    inventory.gpus[1].part = Part::Instance { parent: id(0), gpu_instance: 3, compute_instance: 0 };
    text.push_str(&told(&inventory, &world));
    // A GPU that is cut is none of any.
    world.services = vec![service("any", 1024, 50), service("both", 1024, 50).many(2)];
    text.push_str(&told(&inventory, &world));
    world.services = vec![service("all", 1024, 50)];
    world.services[0].share.devices = GpuDevices::All;
    text.push_str(&told(&inventory, &world));
    insta::assert_snapshot!(text);
}

#[test]
fn what_was_seen_counts_beside_promises_and_not_beside_what_others_use() {
    let mut world = World {
        cards: vec![card(12 * 1024)],
        services: vec![
            service("ollama", None, 50).seen(10 * 1024),
            service("web", 2 * 1024, 80).runs(&[0], 2 * 1024),
        ],
    };
    // 10 GiB are not free beside the 2 GiB that were promised.
    let mut text = told(&world.inventory(), &world);
    // What the desktop uses is no reason to wait: it did not say that it needs so much.
    world.services.pop();
    world.cards[0].foreign = 4 * 1024;
    text.push_str(&told(&world.inventory(), &world));
    // While it runs, its room is not given away.
    world.services[0] = world.services[0].clone().runs(&[0], None);
    world.services.push(service("late", 1024, 50));
    text.push_str(&told(&world.inventory(), &world));
    insta::assert_snapshot!(text);
}

#[test]
fn a_gpu_that_it_had_goes_first_then_the_emptiest() {
    let mut had = service("had", 1024, 50);
    had.holds = Some(held(&[1], Some(1024)));
    let services = vec![had, service("new", 1024, 40), service("pair", 2 * 1024, 30).many(2)];
    let mut world = World { cards: vec![card(4 * 1024), card(8 * 1024), card(8 * 1024)], services };
    let mut text = told(&world.inventory(), &world);
    world.cards[1].foreign = 7 * 1024;
    text.push_str("its GPU is full\n");
    text.push_str(&told(&world.inventory(), &world));
    insta::assert_snapshot!(text);
}

#[test]
fn a_budget_grows_into_what_nobody_waits_for_and_a_change_counts_while_it_runs() {
    let grown = |vram: Option<u64>, budget: Option<u64>, cards: &[usize]| {
        let mut llm = service("llm", vram, 50).least(1024).runs(&[0], budget);
        llm.share.devices = GpuDevices::Ids(cards.iter().copied().map(id).collect());
        decided(&[8 * 1024, 8 * 1024], vec![llm, service("low", 2 * 1024, 10).on(&[0])])
    };
    let mut text = String::new();
    for (what, vram, budget, cards) in [
        ("was given less than it wants", Some(20 * 1024), Some(2 * 1024), &[0][..]),
        ("wants less", Some(1024), Some(4 * 1024), &[0]),
        ("makes no claim any more", None, Some(4 * 1024), &[0]),
        ("makes one now", Some(4 * 1024), None, &[0]),
        ("wants another GPU", Some(4 * 1024), Some(4 * 1024), &[1]),
    ] {
        text.extend([what, "\n", &grown(vram, budget, cards)]);
    }
    insta::assert_snapshot!(text);
}

#[test]
fn what_is_open_stays_in_use_when_the_container_is_given_another_gpu() {
    let moves = service("llm", 2 * 1024, 50).on(&[1]).runs(&[0], 2 * 1024).uses(&[3 * 1024]);
    let grows = service("grows", 8 * 1024, 20).on(&[0]).least(1024).runs(&[0], 1024);
    assert_eq!(
        decided(&[8 * 1024, 8 * 1024], vec![moves.clone(), grows]),
        "grows: granted GPU-0, 4864M\nllm: granted GPU-1, 2G\n"
    );
    // Nor does it count as what comes back.
    let after = |index: usize| {
        let world = World { cards: vec![card(8 * 1024); 2], services: vec![moves.clone()] };
        let (inventory, claims) = (world.inventory(), world.claims());
        let mut pass = super::Pass::new(&inventory, &claims);
        assert!(pass.goes_on(0).is_some());
        pass.then.accounts[index].loads[0] / MIB
    };
    assert_eq!((after(0), after(1)), (3 * 1024, 2 * 1024));
}

#[test]
fn a_restart_takes_no_more_than_it_had_from_one_that_waits() {
    let mut restarts = service("a", 6 * 1024, 50).least(2 * 1024);
    (restarts.holds, restarts.granted) = (Some(held(&[0], Some(3 * 1024))), true);
    let waits = service("b", 4 * 1024, 50);
    assert_eq!(
        decided(&[8 * 1024], vec![restarts.clone(), waits]),
        "a: granted GPU-0, 3840M\nb: granted GPU-0, 4G\n"
    );
    assert_eq!(decided(&[8 * 1024], vec![restarts]), "a: granted GPU-0, 6G\n");
}

#[test]
fn memory_that_is_the_machines_is_not_counted() {
    let mut world =
        World { cards: vec![card(8 * 1024), card(8 * 1024)], services: vec![service("a", 90 * 1024, 50).on(&[0])] };
    world.cards[0].is_shared = true;
    let mut inventory = world.inventory();
    assert_eq!(told(&inventory, &world), "a: granted GPU-0, 90G\n");
    let asked = fit(&inventory, &world.claims(), &Ask { name: Some(&name("a")), share: None }).unwrap();
    assert_eq!(
        asked.hint,
        "the memory of GPU 0 (NVIDIA Test) is the machine's, or not told: nothing is counted there"
    );
    inventory.gpus[0].shares_memory = false;
    inventory.gpus[0].memory = None;
    assert_eq!(told(&inventory, &world), "a: granted GPU-0, 90G\n");
    // Memory of its own goes first.
    world.services = vec![service("a", 1024, 50), service("b", 1024, 50).many(2)];
    assert_eq!(told(&inventory, &world), "a: granted GPU-1, 1G\nb: granted GPU-0 GPU-1, 1G\n");
}

#[test]
fn what_is_stopped_for_good_keeps_what_it_has_and_what_is_down_has_nothing() {
    let mut stopped = service("stopped", 2 * 1024, 50).runs(&[0], 2 * 1024);
    stopped.wants = false;
    let mut down = service("down", 2 * 1024, 50);
    down.wants = false;
    let waits = service("waits", 6 * 1024, 50);
    insta::assert_snapshot!(decided(&[8 * 1024], vec![stopped, down, waits]));
}

#[test]
fn many_candidates_are_not_all_compared_and_none_yields_that_need_not() {
    let mut services: Vec<Service> =
        (0..20).map(|n| service(&format!("s{n:02}"), 512, 10 + n % 2).runs(&[0], 512)).collect();
    services.push(service("top", 3 * 1024, 90));
    let world = World { cards: vec![card(20 * 512 + 256)], services };
    let decisions = admit(&world.inventory(), &world.claims());
    let yields = decisions.iter().filter(|(_, decision)| matches!(decision, Decision::Yields { .. }));
    let names: Vec<&str> = yields.map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["s00", "s02", "s04", "s06", "s08", "s10"], "of the lowest priority, and six are enough");
}

#[test]
fn what_would_fit_is_told_without_being_done() {
    let world = World {
        cards: vec![card(12 * 1024), card(4 * 1024)],
        services: vec![
            service("batch", 6 * 1024, 10).runs(&[0], 6 * 1024).uses(&[6 * 1024]),
            service("web", 4 * 1024, 80).runs(&[0], 4 * 1024),
            service("held", 2 * 1024, 50),
        ],
    };
    let mut world = world;
    world.services[2].wants = false;
    let inventory = world.inventory();
    let made_up = |vram: u64, priority| {
        let share = service("x", vram * 1024, priority).share;
        fit(&inventory, &world.claims(), &Ask { name: None, share: Some(&share) }).unwrap()
    };
    assert_eq!((made_up(3, 50).outcome, made_up(3, 50).budget), (Outcome::Fits, Some(Bytes(3 << 30))));
    let yields = made_up(5, 50);
    assert_eq!(yields.outcome, Outcome::Yields);
    assert_eq!((yields.yields[0].name.as_str(), yields.yields[0].memory), ("batch", Bytes(6 << 30)));
    assert_eq!((yields.gpus, yields.budget), (vec![id(0)], Some(Bytes(5 << 30))));
    assert_eq!(made_up(5, 10).outcome, Outcome::Waits, "nobody yields to its own priority");
    assert_eq!(made_up(12, 100).outcome, Outcome::Never);
    let ask = |text: &str| fit(&inventory, &world.claims(), &Ask { name: Some(&name(text)), share: None });
    assert_eq!(ask("held").unwrap().outcome, Outcome::Fits, "as if it were not held");
    assert_eq!(ask("batch").unwrap().budget, Some(Bytes(6 << 30)), "what runs has what it has");
    assert_eq!(ask("nobody"), None);
    // With another share it is asked about as if it were started anew, in its own room.
    let share = service("x", 7 * 1024, 80).share;
    let anew = fit(&inventory, &world.claims(), &Ask { name: Some(&name("batch")), share: Some(&share) }).unwrap();
    assert_eq!((anew.outcome, anew.budget), (Outcome::Fits, Some(Bytes(7 << 30))));
    assert_eq!(admit(&inventory, &world.claims()).len(), 2, "nothing was changed");
}

#[test]
fn figures_that_cannot_be_true_are_no_panic() {
    let mut world = World { cards: vec![card(8 * 1024)], services: vec![service("a", 1024, 50)] };
    world.services.push(service("b", 1024, 90).runs(&[0], 1024));
    let mut inventory = world.inventory();
    let odd = Memory { total: Bytes(5), reserved: Bytes(u64::MAX), used: Bytes(u64::MAX) };
    inventory.gpus[0].memory = Some(odd);
    world.services[0].remembered = Some(u64::MAX / MIB);
    let decisions = admit(&inventory, &world.claims());
    assert!(matches!(decisions[&name("a")], Decision::Waits { .. }));
    assert!(matches!(decisions[&name("b")], Decision::Granted(_)));
}

#[test]
fn who_cannot_start_anyway_takes_nothing_from_what_it_waits_for() {
    // Its dependency can start only without it.
    let webui = service("webui", 6 * 1024, 60).after(&["ollama"]);
    let mut text = decided(&[8 * 1024], vec![webui.clone(), service("ollama", 6 * 1024, 50)]);
    // Nor does what it needs end for it, which leaves the rest to others.
    let ollama = service("ollama", 6 * 1024, 50).runs(&[0], 6 * 1024);
    text.push_str("what it needs runs\n");
    text.push_str(&decided(&[8 * 1024], vec![webui.clone(), ollama.clone(), service("late", 1024, 10)]));
    text.push_str("others can end\n");
    let batch = service("batch", 6 * 1024, 40).runs(&[1], 6 * 1024);
    text.push_str(&decided(&[8 * 1024; 2], vec![webui.clone(), ollama.clone(), batch.clone()]));
    text.push_str("and do not while something else is in its way\n");
    let mut blocked = webui.clone();
    blocked.is_blocked = true;
    text.push_str(&decided(&[8 * 1024; 2], vec![blocked, ollama.clone(), batch.clone()]));
    text.push_str("nor when what it needs ends for another one\n");
    let chat = service("chat", 6 * 1024, 80).on(&[0]);
    text.push_str(&decided(&[8 * 1024; 2], vec![webui, ollama, batch, chat]));
    insta::assert_snapshot!(text);
}

#[test]
fn a_card_is_meant_where_the_others_are_integrated() {
    let world = World { cards: vec![card(8 * 1024); 3], services: vec![service("any", 1024, 50)] };
    let mut inventory = world.inventory();
    (inventory.gpus[0].vendor, inventory.gpus[0].shares_memory) = (Vendor::Intel, true);
    assert_eq!(told(&inventory, &world), "any: granted GPU-1, 1G\n");
    // Two that have memory of their own are a choice, and so are two that have none.
    inventory.gpus[2].vendor = Vendor::Amd;
    assert!(told(&inventory, &world).contains("GPUs of several vendors are there"));
    (inventory.gpus[1].shares_memory, inventory.gpus[2].shares_memory) = (true, true);
    assert!(told(&inventory, &world).contains("GPUs of several vendors are there"));
    // What cannot be seen of AMD's can be a card, too.
    let fault = Fault { vendor: Some(Vendor::Amd), kind: FaultKind::Hangs, message: "no answer".to_owned() };
    inventory.gpus[1].shares_memory = false;
    (inventory.gpus[2].vendor, inventory.faults) = (Vendor::Nvidia, vec![fault]);
    inventory.drivers.insert(Vendor::Amd, Driver::default());
    assert!(told(&inventory, &world).contains("no answer"));
}
