# `memory_min` and `memory_low` when memory is short: in the stack's budget, where a hog wants it, and on the machine as a whole.
MIB = 1 << 20
MACHINE = "/sys/fs/cgroup/machine.slice"
STACK = f"{MACHINE}/machine-nixmox.slice/machine-nixmox-cloud.slice"
# Those who only hold what they have, and what that is in MiB; and what each is protected with.
HELD = 40
# What a hog wants, in MiB, and what all may have together.
HOG = 250
BUDGET = 180
QUIET = {"firm": "memory_min = '48M'", "soft": "memory_low = '48M'", "bare": ""}


def declare(limits, hog=""):
    tables = "".join(f"[services.{name}]\nsystem = '{systems['quiet']}'\nlimits = {{ {text} }}\n" for name, text in limits.items())
    machine.succeed(
        "mkdir -p /srv/cloud && cat > /srv/cloud/nixmox.toml <<'E'\nformat = 1\n"
        f"[stack]\nname = 'cloud'\nlimits = {{ memory_max = '{BUDGET}M' }}\n{tables}{hog}E",
        "cd /srv/cloud && nixmoxctl up --prune",
    )


def hold(when):
    """Returns and tells what the quiet ones hold that is not in swap, in MiB."""
    held = [int(machine.succeed(f"cat {STACK}/container@{name}.service/memory.current")) / MIB for name in QUIET]
    machine.log(f"{when}: " + ", ".join(f"{name} {mib:.1f} MiB" for name, mib in zip(QUIET, held)))
    return held


def press(limits):
    """Has a hog take more than the budget has left, and ends it."""
    declare(limits, f"[services.hog]\nsystem = '{systems['hog']}'\n")
    parts = [f"$(cat {STACK}/container@hog.service/memory.{part}current)" for part in ("", "swap.")]
    took = f"(( {' + '.join(parts)} > {HOG * MIB} ))"
    machine.wait_until_succeeds(took, timeout=600)
    held = hold("after the hog")
    declare(limits)
    return held


def reclaim(group, mib):
    """Has the kernel take that much from a group, or what it gets."""
    machine.execute(f"echo {mib}M > {group}/memory.reclaim")
    return hold(f"after {mib} MiB from {group}")


def invocations():
    return [machine.get_unit_property(f"container@{name}.service", "InvocationID") for name in QUIET]


machine.start()
machine.wait_for_unit("nixmox-agent.service")
systems = {name: machine.succeed(f"static-guest {name} hog={size}").strip() for name, size in {"quiet": HELD, "hog": HOG}.items()}
machine.succeed("dd if=/dev/zero of=/srv/swap bs=1M count=500 && chmod 600 /srv/swap && mkswap /srv/swap && swapon /srv/swap")
bare = dict.fromkeys(QUIET, "")
declare(bare)
for name in QUIET:
    machine.wait_until_succeeds(f"test $(cat {STACK}/container@{name}.service/memory.current) -gt {HELD * MIB}", timeout=300)
before = invocations()

with subtest("protected, set while they run, they are left alone on the machine while there is somebody else"):
    declare(QUIET)
    firm, soft, other = reclaim(MACHINE, 15)
    t.assertTrue(min(firm, soft) > HELD and other < HELD, "every slice above protects them, too")

with subtest("a hog in the same budget takes from who is not protected"):
    firm, soft, other = press(QUIET)
    t.assertTrue(min(firm, soft) > HELD and other < HELD / 4)

with subtest("with nobody else left, memory_low gives way, and memory_min does not"):
    firm, soft, _ = reclaim(MACHINE, 500)
    t.assertTrue(firm > HELD and soft < HELD / 4)
    # Not from machine.slice but from the machine: that slice protects, too.
    firm, _, _ = reclaim("/sys/fs/cgroup", 500)
    t.assertGreater(firm, HELD)

with subtest("without protection, taken off while it runs, the hog takes from this one as well"):
    declare(bare)
    firm, _, _ = press(bare)
    t.assertLess(firm, HELD * 3 / 4)
    t.assertEqual(invocations(), before)
