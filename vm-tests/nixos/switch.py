# A stack of the host's configuration: it is there after the boot, a switch shows its plan and carries it out, nobody else changes it,
# and a system without it gives it up. An agent that a switch changes touches no container.


def states():
    told = machine.succeed("nixmoxctl status --all --json | jq -r '.services[] | \"\\(.name) \\(.state)\"'")
    return sorted(told.splitlines())


def invocations():
    return [machine.get_unit_property(f"container@{name}.service", "InvocationID") for name in ["calm", "web"]]


def switch(name):
    told = machine.succeed(f"/run/booted-system/specialisation/{name}/bin/switch-to-configuration test 2>&1")
    machine.log(told)
    return told


machine.start()
# It is up when what it brings up is.
machine.wait_for_unit("nixmox-stacks.service")

with subtest("what is declared is there after the boot"):
    t.assertEqual(states(), ["calm healthy", "web healthy"])
    before = invocations()

with subtest("another agent, and nothing else, touches no container"):
    agent = machine.get_unit_property("nixmox-agent.service", "InvocationID")
    switch("upgraded")
    t.assertNotEqual(machine.get_unit_property("nixmox-agent.service", "InvocationID"), agent)
    t.assertEqual(invocations(), before)

with subtest("a switch shows what it changes, and changes no more"):
    t.assertIn("+ more", switch("changed"))
    t.assertEqual(states(), ["calm healthy", "more healthy", "web healthy"])
    t.assertEqual(machine.get_unit_property("container@web.service", "TasksMax"), "77")
    t.assertEqual(invocations(), before)

with subtest("nobody else changes it, and it is said where it is changed"):
    for command in ["-s house down", "--all down web"]:
        t.assertIn("services.nixmox.stacks.house", machine.fail(f"nixmoxctl {command} 2>&1"))
    t.assertEqual(invocations(), before)

with subtest("a system without it gives it up, and leaves its data"):
    switch("without")
    t.assertEqual(states(), [])
    machine.succeed("test -d /var/lib/nixos-containers/web")
