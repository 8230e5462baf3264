//! Deployments that never become healthy, on a real systemd: they go back by themselves, and the data stays as it was.
//!
//! `NIXMOX_KILL_SEED` sets the seed of the points of death, `NIXMOX_KILL_POINTS` their number.
#![allow(clippy::expect_used, clippy::print_stdout, reason = "a test says what it expected and what it does")]

mod deaths;

use nixmox_testbed::{Behaviour, HOMELAB_DIR, Options, Testbed};
use nixmox_tests::operator::Stack;
use nixmox_tests::{agent, say};

use deaths::Deaths;

/// Deaths of an agent per run.
const POINTS: u32 = 16;
/// Reads the row that was written before the deployment, inside the database's container.
const READ_ROW: &str = "systemd-run --machine=postgres --quiet --pipe --wait --uid=postgres -- \
                        psql --tuples-only --no-align --command='select text from kept'";
const WRITE_ROW: &str = "systemd-run --machine=postgres --quiet --pipe --wait --uid=postgres -- \
                         psql --command=\"create table kept as select 'here before'::text as text\"";

#[test]
fn a_database_that_is_replaced_by_what_is_none_comes_back_with_its_data() {
    let bed = Testbed::boot(&Options::new("rollback")).expect("a host");
    bed.install_homelab().expect("the homelab");
    let up = |arguments: &str| {
        bed.shell(&format!("cd {HOMELAB_DIR} && nixmoxctl up {arguments}")).expect("it can be run")
    };
    let first = up("");
    assert!(first.success(), "{first}");
    bed.succeed(WRITE_ROW).expect("a row is written");
    let owner = "stat --format='%u:%g %a %i' /srv/postgres";
    let data = bed.succeed(owner).expect("it is there");
    let good = agent::status(&bed).expect("it answers").host.generation;

    // A program that listens on nothing, in place of the database; nobody waits a minute for it here.
    let system = bed.static_guest("no-database", &Behaviour::new().log("no database here")).expect("a system");
    bed.succeed(&format!(
        "cd {HOMELAB_DIR}/services/postgres && ln -sfn {system} result && \
         sed -i 's|^health = .*|health = {{ tcp = 5432, start_period = \"3s\" }}|' service.toml"
    ))
    .expect("declared");
    let failed = up("");
    say(&format!("$ nixmoxctl up    # exit status {}\n{}{}", failed.code, failed.stdout, failed.stderr));
    assert_eq!(failed.code, 1, "{failed}");
    let said = failed.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    for words in [
        "postgres did not become healthy within 3s".to_owned(),
        "no database here".to_owned(),
        format!("generation {} did not become healthy and was rolled back to {good}", good + 1),
        format!("generation {}: the services that changed are as in {good} again, and healthy", good + 2),
        "to look into it: nixmoxctl up --no-rollback".to_owned(),
    ] {
        assert!(said.contains(&words), "`{words}` is not said: {failed}");
    }
    assert_eq!(bed.succeed(READ_ROW).expect("the database answers"), "here before");
    assert_eq!(bed.succeed(owner).expect("it is there"), data, "the folder of the data is another");
    let page = bed.succeed("curl -sS --max-time 5 http://127.0.0.1:8280/healthcheck").expect("a page");
    assert_eq!(page, "OK");

    let list = bed.succeed("nixmoxctl generations").expect("a list");
    say(&format!("$ nixmoxctl generations\n{list}"));
    let line = |number: u64| {
        let begins = |line: &&str| line.split_whitespace().any(|word| word == number.to_string());
        list.lines().find(begins).unwrap_or_default().to_owned()
    };
    assert!(line(good).contains("good"), "{list}");
    assert!(line(good + 1).contains("bad") && line(good + 1).contains("postgres: tcp 5432"), "{list}");
    assert!(line(good + 2).contains(&format!("as {good}")), "{list}");
    let diff = bed.succeed(&format!("nixmoxctl diff {good} {}", good + 1)).expect("a difference");
    say(&format!("$ nixmoxctl diff {good} {}\n{diff}", good + 1));
    for words in ["~ postgres", "no-database", "tcp 5432", "health.start_period"] {
        assert!(diff.contains(words), "`{words}` is not said: {diff}");
    }

    // Whoever wants to look into it keeps it, and goes back by hand.
    let kept = up("--no-rollback postgres");
    assert_eq!(kept.code, 1, "{kept}");
    assert_eq!(agent::status(&bed).expect("it answers").host.generation, good + 3);
    let back = bed.shell(&format!("cd {HOMELAB_DIR} && nixmoxctl rollback postgres")).expect("it can be run");
    say(&format!("$ nixmoxctl rollback postgres    # exit status {}\n{}{}", back.code, back.stdout, back.stderr));
    assert!(back.success(), "{back}");
    assert_eq!(bed.succeed(READ_ROW).expect("the database answers"), "here before");
}

#[test]
fn an_agent_that_is_killed_at_any_step_of_it_goes_back_all_the_same() {
    let number = |variable: &str| std::env::var(variable).ok().and_then(|text| text.parse::<u64>().ok());
    let of_the_clock = || {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        u64::from(since.subsec_nanos()) ^ since.as_secs() << 20
    };
    let seed = number("NIXMOX_KILL_SEED").unwrap_or_else(of_the_clock);
    say(&format!("NIXMOX_KILL_SEED={seed}"));
    let points = number("NIXMOX_KILL_POINTS").and_then(|points| u32::try_from(points).ok()).unwrap_or(POINTS);
    let mut deaths = Deaths::begin(seed).expect("a host with a good generation");
    // One in each part of the window, so that deaths fall after the verdict whatever the seed.
    for point in 0..points {
        deaths
            .point(point, points)
            .unwrap_or_else(|error| panic!("NIXMOX_KILL_SEED={seed}, point {point}: {error:?}"));
    }
    say(&deaths.histogram());
    assert!(deaths.on_the_way_back() > 0, "no death fell after the verdict");
}

/// A stack of one service whose health check answers, or not.
fn declare(stack: &Stack<'_>, system: &str) {
    let table = format!(
        "[services.web]\nsystem = \"{system}\"\nhealth = {{ http = \"http://localhost/\", interval = \"1s\", start_period = \"1s\" }}"
    );
    stack.declare(&[&table]).expect("a manifest");
}

#[test]
fn a_first_deployment_that_fails_is_left_for_debugging() {
    let bed = Testbed::boot(&Options::new("rollback-first").without_homelab()).expect("a host");
    let stack = Stack::new(&bed, "first");
    let sick = bed.static_guest("sick", &Behaviour::new().http(80).http_status(503)).expect("a system");
    let well = bed.static_guest("well", &Behaviour::new().http(80)).expect("a system");
    declare(&stack, &sick);
    stack.refuse("up", 1, &["web did not become healthy within 1s", "503"]).expect("it is told");
    assert_eq!(stack.field("web", "state").expect("known"), "unhealthy");
    declare(&stack, &well);
    stack.succeed("up").expect("it becomes healthy");
    declare(&stack, &sick);
    stack.refuse("up", 1, &["generation 3 did not become healthy and was rolled back to 2"]).expect("it goes back");
    stack.healthy("web").expect("as it was");
    // It does not come back by itself.
    bed.succeed("systemctl restart nixmox-agent").expect("another agent");
    stack.becomes_healthy("web").expect("as it was");
    stack.succeed("up --no-rollback --detach").expect("asked for once more");
    stack
        .refuse("rollback --to 77", 1, &["there is no generation 77", "there are: 1, 2, 3, 4, 5"])
        .expect("it is told");
    stack.succeed("rollback --to 2").expect("it goes back");
    stack.healthy("web").expect("as it was");
}
