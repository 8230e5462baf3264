# A clock that jumps, as one without a battery does when it hears of the time: nothing is restarted, nothing waits for years.

import json

machine.start()
machine.wait_for_unit("nixmox-agent.service")
web = machine.succeed("static-guest web http=80").strip()
crashing = machine.succeed("static-guest crashing exit=3@2").strip()
machine.succeed(
    f"""mkdir -p /srv/clock && cat > /srv/clock/nixmox.toml <<'E'
format = 1
[stack]
name = "clock"
[services.web]
system = "{web}"
health = {{ http = "http://localhost/", interval = "1s", timeout = "10s", on_unhealthy = "restart" }}
[services.crashing]
system = "{crashing}"
restart = {{ delay = "2s", delay_max = "10s" }}
E""",
    "cd /srv/clock && nixmoxctl up web",
)
before = machine.get_unit_property("container@web.service", "InvocationID")


def service(name):
    status = json.loads(machine.succeed("nixmoxctl -s clock status --json"))
    (found,) = [service for service in status["services"] if service["name"] == name]
    return found


def restarts():
    return service("crashing")["restarts"]


for jump in ["+400 days", "-800 days", "+400 days"]:
    with subtest(f"the clock jumps by {jump}"):
        number = service("web")["restarts"]
        machine.succeed(f"date --set='now {jump}'")
        # Probes go on, and so does the restarting of what crashes.
        machine.succeed("sleep 5")
        t.assertEqual(service("web")["state"], "healthy")
        t.assertEqual(service("web")["restarts"], number)
        t.assertEqual(machine.get_unit_property("container@web.service", "InvocationID"), before)
        machine.succeed("nixmoxctl events -n 5", "nixmoxctl -s clock logs -n 5")

with subtest("a back-off is counted by a clock that does not jump"):
    machine.execute("cd /srv/clock && timeout 20 nixmoxctl up --no-rollback crashing")
    machine.succeed("date --set='now -800 days'")
    count = restarts()
    machine.wait_until_succeeds(
        f"nixmoxctl -s clock status --json | jq -e '.services[] | select(.name == \"crashing\") | .restarts > {count} or .state == \"failed\"'",
        timeout=300,
    )
