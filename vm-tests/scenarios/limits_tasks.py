# Tasks: a fork bomb stops at its limit, can do nothing to others, and goes on when the limit is taken off.

SLICE = "/sys/fs/cgroup/machine.slice/machine-nixmox.slice/machine-nixmox-bomb.slice"
# How many children it wants, and goes on trying for where it may not have them: more than it may have, fewer than the machine
# can bear.
CHILDREN = 400


def declare(limits):
    machine.succeed(
        f"""mkdir -p /srv/bomb && cat > /srv/bomb/nixmox.toml <<'E'
format = 1
[stack]
name = "bomb"
[services.bomb]
system = "{bomb}"
limits = {{ {limits} }}
[services.other]
system = "{other}"
health = {{ http = "http://localhost/" }}
E""",
        "cd /srv/bomb && nixmoxctl up",
    )


def tasks():
    return int(machine.succeed(f"cat {SLICE}/container@bomb.service/pids.current"))


machine.start()
machine.wait_for_unit("nixmox-agent.service")
bomb = machine.succeed(f"static-guest bomb forks={CHILDREN}").strip()
other = machine.succeed("static-guest other http=80").strip()

with subtest("it stops at its limit"):
    declare("tasks_max = 50")
    machine.wait_until_succeeds(f"grep -v 'max 0' {SLICE}/container@bomb.service/pids.events", timeout=300)
    machine.succeed("sleep 5")
    t.assertLessEqual(tasks(), 50)
    t.assertGreater(tasks(), 40, "it is the limit that holds it")
    row = machine.succeed("nixmoxctl --all top --json")
    t.assertIn('"tasks_max":50', row)

with subtest("its neighbour is well"):
    machine.wait_until_succeeds("nixmoxctl --all status --json | jq -e '.services[] | select(.name == \"other\") | .state == \"healthy\"'", timeout=120)

with subtest("a greater limit takes effect at once, and none as well"):
    before = machine.get_unit_property("container@bomb.service", "InvocationID")
    declare("tasks_max = 120")
    machine.wait_until_succeeds(f"test $(cat {SLICE}/container@bomb.service/pids.current) -gt 100", timeout=300)
    machine.succeed("sleep 5")
    t.assertLessEqual(tasks(), 120)
    declare("")
    machine.wait_until_succeeds(f"test $(cat {SLICE}/container@bomb.service/pids.current) -ge {CHILDREN}", timeout=300)
    t.assertEqual(machine.get_unit_property("container@bomb.service", "InvocationID"), before)

with subtest("a limit set behind the agent's back is drift, and is put right"):
    declare("tasks_max = 500")
    machine.succeed("systemctl set-property --runtime container@bomb.service TasksMax=77")
    machine.wait_until_succeeds(f"test $(cat {SLICE}/container@bomb.service/pids.max) = 500", timeout=300)
    t.assertIn("drift", machine.succeed("nixmoxctl events bomb"))
