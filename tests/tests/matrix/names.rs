//! Names: of links longer than the kernel takes them, and of services.

use nixmox_tests::operator::Stack;

use crate::{LIMIT, address, debian, fetch, host, inside, web};

#[test]
fn names_that_share_their_first_letters_are_two_links_and_both_answer() {
    let (host, _held) = host();
    let stack = Stack::new(&host, "long");
    let names = ["really-long-name-of-one", "really-long-name-of-two"];
    // A short one beside them keeps its name as it is.
    stack
        .declare(&[&web(&host, names[0], ""), &web(&host, names[1], ""), &web(&host, "short", "")])
        .expect("written");
    stack.succeed("up").expect("it comes up");
    // The kernel's name of a link has 15 characters; the whole one is an alternative name of it.
    let link = |name: &str| host.succeed(&format!("ip -j link show ve-{name} | jq -r '.[0].ifname'"));
    let links = names.map(|name| link(name).expect("its link"));
    assert!(links.iter().all(|link| link.starts_with("ve-really-l") && link.len() <= 15), "{links:?}");
    assert_ne!(links[0], links[1]);
    assert_eq!(link("short").expect("its link"), "ve-short");
    for name in names {
        host.wait_until(&fetch(&address(&stack, name), 80), LIMIT).expect("it answers");
    }

    // Each is its own: one that is stopped takes nothing of the other along, and comes back.
    let kept = stack.healthy(names[1]).expect("healthy");
    stack.succeed(&format!("stop {}", names[0])).expect("stopped");
    host.fail(&format!("ip link show ve-{}", names[0])).expect("its link is gone");
    host.succeed(&fetch(&address(&stack, names[1]), 80)).expect("the other answers");
    stack.succeed(&format!("start {}", names[0])).expect("started");
    host.wait_until(&fetch(&address(&stack, names[0]), 80), LIMIT).expect("it answers again");
    assert_eq!(stack.healthy(names[1]).expect("healthy"), kept, "the other was not touched");
    stack.succeed("down").expect("taken down");
}

#[test]
fn a_service_is_found_by_its_name_in_another_and_no_netmask_comes_with_it() {
    let (host, _held) = host();
    let stack = Stack::new(&host, "named");
    stack.declare(&[&debian(&host, "asks", ""), &web(&host, "is-asked", "")]).expect("written");
    stack.succeed("up").expect("it comes up");
    let expected = address(&stack, "is-asked");
    for name in ["is-asked", "is-asked.named"] {
        let found = inside(&host, "asks", &format!("getent ahostsv4 {name}"));
        let found = found.split_whitespace().next().expect("an address");
        assert_eq!(found, expected, "{name}");
    }
    inside(&host, "asks", "curl -sf --max-time 5 http://is-asked/");
    stack.succeed("down").expect("taken down");
}
