# A host that reboots: the same order behind the same gates without anybody's help, and the reverse order before.

import json


def state():
    status = json.loads(machine.succeed("nixmoxctl --all status --json"))
    return {service["name"]: service["state"] for service in status["services"]}


def wait_until_healthy():
    healthy = "[.services[] | select(.state == \"healthy\")] | length == 3"
    machine.wait_until_succeeds(f"nixmoxctl --all status --json | jq -e '{healthy}'", timeout=600)


def started_at(name):
    return int(machine.get_unit_property(f"container@{name}.service", "ActiveEnterTimestampMonotonic"))


machine.start(allow_reboot=True)
machine.wait_for_unit("nixmox-agent.service")
door = machine.succeed("static-guest door http=80 stop_takes=1").strip()
machine.succeed(
    f"""mkdir -p /srv/house && cat > /srv/house/nixmox.toml <<'E'
format = 1
[stack]
name = "house"
[services.ground]
system = "{door}"
health = {{ http = "http://localhost/", interval = "1s", timeout = "5s" }}
[services.first]
system = "{door}"
depends_on = {{ ground = "healthy" }}
health = {{ http = "http://localhost/", interval = "1s", timeout = "5s" }}
[services.roof]
system = "{door}"
depends_on = {{ first = "healthy" }}
[services.held]
system = "{door}"
E""",
    "cd /srv/house && nixmoxctl up && nixmoxctl stop held",
)
ORDER = ["ground", "first", "roof"]
generation = machine.succeed("readlink /var/lib/nixmox/current")

with subtest("a reboot brings back what ran, in order, and nothing else"):
    machine.reboot()
    machine.wait_for_unit("nixmox-agent.service")
    wait_until_healthy()
    times = [started_at(name) for name in ORDER]
    t.assertEqual(times, sorted(times), "dependencies first")
    t.assertEqual(state()["held"], "stopped", "what `stop` holds stays stopped")
    t.assertEqual(machine.succeed("readlink /var/lib/nixmox/current"), generation, "nobody called `up`")

with subtest("the shutdown before went the other way, each to its end"):
    stopped = machine.succeed(
        "journalctl --boot=-1 --output=json --unit='container@*' JOB_TYPE=stop JOB_RESULT=done "
        "| jq -r 'select(.MESSAGE | startswith(\"Stopped\")) | .UNIT'"
    ).split()
    names = [unit.removeprefix("container@").removesuffix(".service") for unit in stopped if "held" not in unit]
    t.assertEqual(names[-3:], ORDER[::-1])
    for name in ORDER:
        machine.succeed(f"test -e /var/lib/nixos-containers/{name}/var/lib/guest/stopped")

with subtest("an orderly end and a new start do the same"):
    machine.shutdown()
    machine.start()
    machine.wait_for_unit("nixmox-agent.service")
    wait_until_healthy()
    times = [started_at(name) for name in ORDER]
    t.assertEqual(times, sorted(times))
