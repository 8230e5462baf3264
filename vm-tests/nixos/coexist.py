# Beside `nixos-container` itself: it lists, enters, starts and stops what is ours, and what it made is refused by name and left alone.


def states():
    told = machine.succeed("nixmoxctl status --all --json | jq -r '.services[] | \"\\(.name) \\(.state)\"'")
    return sorted(told.splitlines())


def invocation(name):
    return machine.get_unit_property(f"container@{name}.service", "InvocationID")


def status(name):
    return machine.succeed(f"nixos-container status {name}").strip()


def show_ip(name):
    return machine.succeed(f"nixos-container show-ip {name}").strip()


machine.start()
machine.wait_for_unit("nixmox-stacks.service")
t.assertEqual(states(), ["ours healthy", "web healthy"])

with subtest("one of theirs is made beside ours, with an address of its own"):
    machine.succeed("nixos-container create theirs --system-path $(cat /etc/system-of-theirs)")
    t.assertEqual(sorted(machine.succeed("nixos-container list").split()), ["ours", "theirs", "web"])
    t.assertEqual(len({show_ip(name) for name in ["ours", "theirs", "web"]}), 3)
    machine.succeed("nixos-container start theirs")
    for name in ["theirs", "web"]:
        machine.wait_until_succeeds(f"curl -sf --noproxy '*' --max-time 2 http://{show_ip(name)}/", timeout=60)
    t.assertEqual(states(), ["ours healthy", "web healthy"])

with subtest("its name is refused, and nothing of ours touches it"):
    conf = machine.succeed("stat -c '%i %z %s' /etc/nixos-containers/theirs.conf")
    before = invocation("theirs")
    machine.succeed(
        """mkdir -p /srv/more && cat > /srv/more/nixmox.toml <<E
format = 1
[stack]
name = "more"
[services.theirs]
system = "$(cat /etc/system-of-theirs)"
E"""
    )
    for command in ["plan", "up", "up --prune"]:
        told = machine.fail(f"cd /srv/more && nixmoxctl {command} 2>&1")
        for words in ["that NixMox did not make", "adopt = true", "nixos-container destroy theirs"]:
            t.assertIn(words, " ".join(told.split()))
    machine.fail("nixmoxctl rm theirs --data --yes")
    machine.succeed("nixmoxctl restart web", "upgrade-agent")
    machine.wait_until_succeeds("nixmoxctl --all status", timeout=60)
    t.assertEqual(invocation("theirs"), before)
    t.assertEqual(machine.succeed("stat -c '%i %z %s' /etc/nixos-containers/theirs.conf"), conf)

with subtest("they run commands in ours"):
    t.assertEqual(machine.succeed("nixos-container run ours -- cat /etc/round").strip(), "ours")
    t.assertEqual(machine.succeed("echo 'echo It works' | nixos-container root-login ours").strip(), "It works")
    t.assertEqual(machine.succeed("systemd-run -q --machine=ours --pipe --wait cat /etc/round").strip(), "ours")

with subtest("either side stops and starts ours"):
    before = invocation("web")
    machine.succeed("nixos-container stop web")
    t.assertEqual(status("web"), "down")
    told = machine.succeed("nixmoxctl why web")
    t.assertIn("stopped by somebody, not through NixMox", told)
    machine.succeed("nixos-container start web")
    machine.wait_until_succeeds("nixmoxctl status --all --json | jq -e '[.services[].state] == [\"healthy\", \"healthy\"]'", timeout=60)
    t.assertNotEqual(invocation("web"), before)
    # What is declared is started, when nobody else does it.
    before = invocation("web")
    machine.succeed("nixos-container terminate web")
    machine.wait_until_succeeds(f"test $(systemctl show -P InvocationID container@web) != {before} && nixos-container status web | grep up", timeout=90)
    machine.succeed("nixmoxctl stop web")
    t.assertEqual(status("web"), "down")
    machine.succeed("nixmoxctl start web")
    t.assertEqual(status("web"), "up")

with subtest("its owner destroys theirs, and ours stay"):
    ours = [invocation(name) for name in ["ours", "web"]]
    machine.succeed("nixos-container stop theirs", "nixos-container destroy theirs")
    machine.fail("test -e /var/lib/nixos-containers/theirs")
    t.assertEqual(sorted(machine.succeed("nixos-container list").split()), ["ours", "web"])
    t.assertEqual([invocation(name) for name in ["ours", "web"]], ours)
    t.assertEqual(states(), ["ours healthy", "web healthy"])
