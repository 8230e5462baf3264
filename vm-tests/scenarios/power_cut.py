# Power cuts in the middle of `up` and of writing a generation: no torn state, and nothing that was acknowledged is lost.
# Most are judged by reading the disk from outside, a few by booting.
# Not on NixOS: its driver neither keeps a machine and goes back to it, nor reads the disk of one that is off.

import json
import random

POINTS = 20
BOOTS = 2
STATE = "/var/lib/nixmox"
# How many generations are acknowledged before a cut comes, at the most, and within how many seconds it then comes: generations
# are written meanwhile, and containers stop and start.
ROUNDS = 5
SPREAD = 3.0

machine.start()
machine.wait_for_unit("nixmox-agent.service")
web = machine.succeed("static-guest web http=80").strip()
machine.succeed(
    f"""mkdir -p /srv/cut && cat > /srv/cut/manifest <<'E'
format = 1
[stack]
name = "cut"
[services.first]
system = "{web}"
environment = {{ ROUND = "@" }}
[services.second]
system = "{web}"
depends_on = ["first"]
limits = {{ tasks_max = 1@ }}
E""",
    # Says each generation that was acknowledged on the serial console, which is there when the machine is not.
    """cat > /srv/cut/rounds <<'E'
#!/bin/bash
cd /srv/cut
for round in {10..99}; do
    sed "s/@/$round/" manifest > nixmox.toml
    nixmoxctl up --detach > /dev/null 2>&1 && echo "acknowledged $(basename "$(readlink /var/lib/nixmox/current)" .json)" > /dev/ttyS0
done
E""",
    "cd /srv/cut && sed s/@/9/ manifest > nixmox.toml && nixmoxctl up",
)


def acknowledged():
    lines = machine.console_text().splitlines()
    return max((int(line.split()[1]) for line in lines if line.startswith("acknowledged ")), default=0)


def judge(folder):
    """Complains of state that is torn, or older than what was acknowledged; returns the current generation."""
    current = folder / "current"
    number = int(current.readlink().stem)
    for file in sorted(folder.glob("generations/*.json")) + sorted(folder.glob("*.json")):
        json.loads(file.read_text())
    found = json.loads((folder / "generations" / f"{number}.json").read_text())
    t.assertEqual(found["number"], number)
    t.assertGreaterEqual(number, acknowledged(), "what was acknowledged is there")
    return number


def cut(seed):
    if seed % 2:
        # Each step of a write takes long, so that cuts fall between them.
        slow = "inject=fsync,rename,symlink,symlinkat:delay_exit=400000"
        machine.succeed(
            f"systemd-run --quiet --unit=slow strace -f -o /dev/null -e {slow} -p $(systemctl show -P MainPID nixmox-agent)"
        )
    machine.succeed("systemd-run --quiet --unit=rounds bash /srv/cut/rounds")
    # So that cuts fall into different rounds and parts of them, on a slow machine as well: the first generation is the one before.
    machine.wait_until_succeeds(f"(( $(basename $(readlink {STATE}/current) .json) > {seed // 2 % ROUNDS} ))", timeout=600)
    if seed % 2:
        machine.succeed(f"until compgen -G '{STATE}/generations/.*.new' > /dev/null; do sleep 0.02; done", timeout=600)
    part = (seed // 2 % (POINTS // 2) + random.Random(seed).random()) / (POINTS // 2)
    machine.succeed(f"sleep {part * SPREAD:.3f}")
    machine.crash()


machine.keep()
with subtest("what lies on the disk is whole after every cut"):
    seen = {}
    for seed in range(POINTS):
        cut(seed)
        files = machine.files_on_disk(STATE)
        number = judge(files)
        # What a write had begun: a file beside the one it replaces, or a generation that is not current yet.
        begun = [file.name for file in files.rglob(".*.new")]
        begun += [file.name for file in files.glob("generations/*.json") if int(file.stem) > number]
        seen[seed] = (number, begun)
        machine.log(f"cut {seed}: generation {number}, acknowledged {acknowledged()}, begun: {begun}")
        machine.go_back()
    t.assertGreater(len({number for number, _ in seen.values()}), 2, "cuts fell into different rounds")
    t.assertTrue(any(begun for _, begun in seen.values()), "cuts fell into the writing of a generation")

with subtest("a boot after a cut has what was acknowledged, and brings it up"):
    for seed in range(POINTS, POINTS + BOOTS):
        cut(seed)
        before = acknowledged()
        machine.start()
        machine.wait_for_unit("nixmox-agent.service")
        machine.wait_until_succeeds("nixmoxctl -s cut status --json | jq -e '[.services[] | select(.state == \"healthy\")] | length == 2'", timeout=600)
        number = int(machine.succeed(f"basename $(readlink {STATE}/current) .json"))
        t.assertGreaterEqual(number, before)
        t.assertEqual(machine.succeed("journalctl --boot --unit=nixmox-agent --priority=err --quiet --output=cat"), "")
        machine.go_back()
