# A container of the host's own configuration that a stack takes over: the agent starts it, and restarts it when a switch changes it.
# A container beside it stays NixOS's.


def invocation(name):
    return machine.get_unit_property(f"container@{name}.service", "InvocationID")


def within(name):
    return machine.succeed(f"nixos-container run {name} -- cat /etc/round").strip()


machine.start()
machine.wait_for_unit("nixmox-stacks.service")
machine.wait_for_unit("container@other.service")
web, other = invocation("web"), invocation("other")

with subtest("the agent has started it, and not systemd"):
    machine.succeed("nixmoxctl -s old status --json | jq -e '.services[] | select(.name == \"web\") | .state == \"healthy\"'")
    wanted = machine.succeed("systemctl show -P Wants machines.target").split()
    t.assertNotIn("container@web.service", wanted)
    t.assertIn("container@other.service", wanted)
    t.assertEqual((within("web"), within("other")), ("first", "other"))

with subtest("an upgrade touches neither"):
    machine.succeed("upgrade-agent")
    machine.wait_until_succeeds("nixmoxctl --all status", timeout=60)
    t.assertEqual((invocation("web"), invocation("other")), (web, other))

with subtest("a switch in which it is another one restarts it, and only it"):
    machine.succeed("/run/booted-system/specialisation/changed/bin/switch-to-configuration test")
    machine.wait_until_succeeds("test \"$(nixos-container run web -- cat /etc/round)\" = second", timeout=120)
    t.assertNotEqual(invocation("web"), web)
    t.assertEqual(invocation("other"), other)

with subtest("both tools see it, and one can stop it for the other"):
    t.assertEqual(machine.succeed("nixos-container status web").strip(), "up")
    machine.succeed("nixmoxctl stop web")
    t.assertEqual(machine.succeed("nixos-container status web").strip(), "down")
