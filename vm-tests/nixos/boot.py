# Boot start-up: after every boot, however the host went down, all that its configuration declares is there, in order, by nobody's help.

import json

EXPECTED = {
    "ground": "healthy",
    "job": "completed",
    "nixos": "healthy",
    "old": "healthy",
    "passing": "healthy",
    "roof": "healthy",
}


def states():
    status = json.loads(machine.succeed("nixmoxctl --all status --json"))
    return {service["name"]: service["state"] for service in status["services"]}


def active_since(name):
    return int(machine.get_unit_property(f"container@{name}.service", "ActiveEnterTimestampMonotonic"))


def all_is_there():
    # Only at the first boot it brings anything up; at the others the agent does, and this unit says so.
    machine.wait_for_unit("nixmox-stacks.service")
    well = f"[.services[] | select(.state == \"healthy\" or .state == \"completed\")] | length == {len(EXPECTED)}"
    machine.wait_until_succeeds(f"nixmoxctl --all status --json | jq -e '{well}'", timeout=300)
    t.assertEqual(states(), EXPECTED)
    t.assertLess(active_since("ground"), active_since("roof"))
    t.assertLess(active_since("roof"), active_since("old"), "the agent started it, and not systemd")
    t.assertEqual(machine.succeed("nixos-container run nixos -- cat /etc/round").strip(), "declared")
    machine.succeed("curl -sf --noproxy '*' http://$(nixos-container show-ip roof)/")
    machine.fail("nixmoxctl --all status | grep drift")
    # Of the host's own units none has failed either.
    t.assertEqual(machine.succeed("systemctl list-units --failed --plain --no-legend").strip(), "")


machine.start(allow_reboot=True)

with subtest("the first boot"):
    all_is_there()
    generation = machine.succeed("readlink /var/lib/nixmox/current")
    machine.succeed(
        "touch /var/lib/nixos-containers/ground/var/kept",
        "touch /run/nixos-containers/passing/var/lost",
        "nixos-container run nixos -- touch /root/kept",
    )

with subtest("a reboot"):
    machine.reboot()
    all_is_there()
    machine.succeed(
        "test -e /var/lib/nixos-containers/ground/var/kept",
        "nixos-container run nixos -- test -e /root/kept",
    )
    machine.fail("test -e /run/nixos-containers/passing/var/lost")
    ran = machine.succeed("journalctl --boot --unit=container@job --output=cat --grep='^Started' || true")
    t.assertEqual(ran.strip(), "", "a job that is done is not run again")

with subtest("a power cut"):
    machine.succeed("sync")
    machine.crash()
    machine.start(allow_reboot=True)
    all_is_there()

with subtest("an orderly end, with a service held"):
    machine.succeed("nixmoxctl stop passing")
    machine.shutdown()
    machine.start(allow_reboot=True)
    machine.wait_for_unit("nixmox-agent.service")
    held = json.loads(machine.succeed("nixmoxctl --all status --json"))["services"]
    t.assertEqual([service["held_by"] for service in held if service["name"] == "passing"], ["root"])

t.assertEqual(machine.succeed("readlink /var/lib/nixmox/current"), generation, "no boot makes a generation")
