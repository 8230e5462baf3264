# Another agent, newer or older, while containers run: an upgrade touches none of them, and an older agent that finds a newer
# format touches nothing at all.

machine.start()
machine.wait_for_unit("nixmox-agent.service")
web = machine.succeed("static-guest web http=80").strip()
slow = machine.succeed("static-guest slow ready_after=20").strip()


def declare(services):
    tables = "\n".join(f"[services.{name}]\nsystem = '{system}'" for name, system in services)
    machine.succeed(
        f"mkdir -p /srv/agent && cat > /srv/agent/nixmox.toml <<'E'\nformat = 1\n[stack]\nname = 'agent'\n{tables}\nE"
    )


def invocations():
    return [machine.get_unit_property(f"container@{name}.service", "InvocationID") for name in ["one", "two"]]


declare([("one", web), ("two", web)])
machine.succeed("cd /srv/agent && nixmoxctl up")
before = invocations()

with subtest("an upgrade touches no container"):
    machine.succeed("upgrade-agent")
    machine.wait_until_succeeds("nixmoxctl plan --exit-code -f /srv/agent/nixmox.toml", timeout=300)
    t.assertEqual(invocations(), before)

with subtest("an `up` that an upgrade falls into is finished by the new agent"):
    declare([("one", web), ("two", web), ("three", slow)])
    machine.succeed("systemd-run --quiet --unit=asks --working-directory=/srv/agent nixmoxctl up")
    machine.wait_until_succeeds("systemctl show -P ActiveState container@three.service | grep activating", timeout=300)
    machine.succeed("upgrade-agent")
    machine.wait_until_succeeds("nixmoxctl plan --exit-code -f /srv/agent/nixmox.toml", timeout=300)
    machine.wait_until_succeeds("test $(systemctl show -P ActiveState asks.service) = inactive", timeout=300)
    t.assertEqual(machine.get_unit_property("asks.service", "Result"), "success")
    t.assertEqual(invocations(), before)

with subtest("an older agent touches nothing, and says which version it takes"):
    machine.succeed(
        "systemctl stop nixmox-agent.service",
        "cd /var/lib/nixmox && number=$(basename $(readlink current) .json) && next=$((number + 1)) && "
        "jq \".format = 99 | .number = $next\" generations/$number.json > generations/$next.json && "
        "ln -sfn generations/$next.json current && cp -a /var/lib/nixmox /root/before",
        "systemctl start nixmox-agent.service",
    )
    machine.wait_until_succeeds("nixmoxctl --all status | grep 'format 99'", timeout=300)
    said = machine.fail("cd /srv/agent && nixmoxctl down 2>&1")
    t.assertIn("format", said)
    t.assertEqual(invocations(), before)
    machine.succeed("diff -r --no-dereference /root/before/generations /var/lib/nixmox/generations")
    machine.succeed("test $(readlink /root/before/current) = $(readlink /var/lib/nixmox/current)")
