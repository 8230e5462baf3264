# A memory hog is killed inside its own limit, and status, events and why say which process that was and how much it held. Who waits
# for a CPU for too long is unhealthy.
import json
import re

machine.start()
machine.wait_for_unit("nixmox-agent.service")


def system(behaviour: str) -> str:
    return machine.succeed(f"static-guest {behaviour}").strip()


systems = {"hog": system("hog hog=200"), "calm": system("calm http=80"), "busy": system("busy spin=1")}


def up(limits: str, *options: str) -> None:
    stack = f"""
format = 1
[stack]
name = "house"
[services.hog]
system = "{systems['hog']}"
{limits}
[services.calm]
system = "{systems['calm']}"
"""
    machine.succeed(f"mkdir -p /srv/house; printf %s '{stack}' > /srv/house/nixmox.toml")
    machine.execute("cd /srv/house && nixmoxctl up " + " ".join(options))


def status(name: str) -> dict:
    told = json.loads(machine.succeed("nixmoxctl status --all --json"))
    return next(service for service in told["services"] if service["name"] == name)


def until(what: str, expected) -> dict:
    """Waits until the hog is as expected."""
    machine.log(f"waiting: {what}")
    for _ in range(600):
        hog = status("hog")
        if expected(hog):
            return hog
        machine.execute("sleep 0.5")
    raise AssertionError(f"{what}: {hog}")


def events(word: str) -> list:
    lines = machine.succeed("nixmoxctl events --json hog").splitlines()
    return [event["message"] for event in map(json.loads, lines) if event["event"] == word]


killed = r"out of memory: killed (\S+) \(pid (\d+)\), ([\d.]+) MiB resident; limit 64 MiB"

with subtest("without a limit it takes what it wants"):
    up("")
    until("it holds 200 MiB", lambda hog: (hog["memory_current"] or 0) > 200 << 20)
    t.assertEqual(status("hog")["state"], "healthy")
    t.assertNotIn("oom_kills", status("hog"))
    t.assertEqual(events("oom"), [])
    calm = status("calm")["invocation"]

with subtest("with a limit, set while it runs, it is killed inside it"):
    up('limits = { memory_max = "64M" }', "--no-rollback", "--detach")
    hog = until("the kill is told with its process", lambda hog: (hog.get("oom_kills") or {}).get("pid"))
    kills = hog["oom_kills"]
    t.assertRegex(kills["why"], killed)
    # It held more when the limit came than the limit allows.
    t.assertTrue(64 << 20 < kills["resident"] <= 210 << 20, kills)
    # What the kernel itself wrote, not through the agent.
    log = machine.succeed("journalctl --boot _TRANSPORT=kernel --output=cat --grep='^oom-kill:|Killed process'")
    t.assertIn(f"task={kills['process']},pid={kills['pid']}", log)
    t.assertIn("/container@hog.service/payload,task=", log)

with subtest("started again, it is killed again, and fails for want of memory"):
    first = f"(pid {kills['pid']})"
    died = lambda hog: hog["state"] == "failed" and "(pid" in hog["reason"] and first not in hog["reason"]
    failed = until("it failed", died)
    t.assertRegex(failed["reason"], killed)
    ((_, _, size),) = re.findall(killed, failed["reason"])
    resident = float(size)
    t.assertTrue(10 < resident <= 64, failed["reason"])
    machine.succeed("nixmoxctl stop hog")

with subtest("status, events and why say it"):
    for told in (machine.succeed("nixmoxctl why hog"), machine.succeed("nixmoxctl status --all")):
        machine.log(told)
        t.assertRegex(" ".join(told.split()), killed)
    kept = events("oom")
    machine.log("\n".join(kept))
    t.assertTrue(kept and all(re.search(killed, text) for text in kept), kept)
    t.assertTrue(any(text.startswith("failed: out of memory") for text in events("failed")), events("failed"))

with subtest("the next agent knows it too"):
    before = status("hog")["oom_kills"]["pid"]
    machine.succeed("systemctl kill --signal=KILL nixmox-agent.service")
    until("it reads the log", lambda hog: (hog.get("oom_kills") or {}).get("pid") == before)
    t.assertEqual(events("oom"), kept)

with subtest("pressure is a part of a health check"):
    check = 'interval = "1s", retries = 1, start_period = "1s"'
    up(f"""[services.busy]
system = "{systems['busy']}"
limits = {{ cpu_quota = "5%" }}
health = {{ pressure = {{ cpu = "20%" }}, {check} }}""", "--no-rollback", "--detach")
    t.assertNotIn("does not count pressure", machine.succeed("cd /srv/house && nixmoxctl plan"))
    machine.wait_until_succeeds("nixmoxctl events busy | grep -q 'unhealthy: cpu pressure [0-9]*% (some, avg10) above 20%'", timeout=300)
    t.assertEqual(status("busy")["state"], "unhealthy")
    why = machine.succeed("nixmoxctl why busy")
    machine.log(why)
    t.assertRegex(" ".join(why.split()), r"pressure cpu \d+%, memory \d+%, io \d+% \(some, avg10\)")

with subtest("the other service was not touched"):
    t.assertEqual((status("calm")["state"], status("calm")["invocation"]), ("healthy", calm))
    t.assertNotIn("oom_kills", status("calm"))
    t.assertNotIn("container@calm.service", log)
