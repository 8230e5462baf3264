# Memory short of a kill: `memory_high` slows down and reclaims, `memory_swap_max` and `memory_zswap_max` bound what goes elsewhere.
# That `memory_max` kills is in `oom`, what `memory_min` and `memory_low` protect in `protection`.

SLICE = "/sys/fs/cgroup/machine.slice/machine-nixmox.slice/machine-nixmox-memory.slice"
MEBIBYTE = 1 << 20


def declare(name, limits):
    table = f"[services.{name}]\nsystem = '{systems[name]}'\nlimits = {{ {limits} }}"
    machine.succeed(
        f"mkdir -p /srv/memory && cat > /srv/memory/nixmox.toml <<'E'\nformat = 1\n[stack]\nname = 'memory'\n{table}\nE",
        "cd /srv/memory && nixmoxctl up",
    )


def of(name, file):
    return machine.succeed(f"cat {SLICE}/container@{name}.service/{file}").strip()


def mebibytes(name, file="memory.current"):
    return int(of(name, file)) / MEBIBYTE


def count(name, file, key):
    return int(dict(line.split() for line in of(name, file).splitlines())[key])


def taking(name, size):
    """Returns a command with which a process of the service holds this many MiB for a moment. It goes before the guest does."""
    join = f"echo 1000 > /proc/self/oom_score_adj; echo $BASHPID > {SLICE}/container@{name}.service/payload/cgroup.procs"
    # Not zeros, which the kernel finds and keeps for nothing.
    command = f"yes nixmox | dd of=/dev/null iflag=fullblock bs={size}M count=1"
    return f"({join}; set +e; {command}; exit ${{PIPESTATUS[1]}}) 2> /dev/null"


def take(name, size):
    """Has a process hold it, and returns whether it lived."""
    status, _ = machine.execute(taking(name, size))
    t.assertIn(status, [0, 137])
    return status == 0


def invocation(name):
    return machine.get_unit_property(f"container@{name}.service", "InvocationID")


machine.start()
machine.wait_for_unit("nixmox-agent.service")
systems = {name: machine.succeed(f"static-guest {name} {does}").strip() for name, does in {"hog": "hog=40", "calm": ""}.items()}
machine.succeed("swapoff --all")

with subtest("without a limit, it has at once all that it wants"):
    declare("hog", "")
    before = invocation("hog")
    machine.wait_until_succeeds(f"test $(cat {SLICE}/container@hog.service/memory.current) -gt {40 * MEBIBYTE}", timeout=300)
    t.assertTrue(take("hog", 80))
    t.assertGreater(mebibytes("hog", "memory.peak"), 120)
    t.assertEqual(count("hog", "memory.events", "high"), 0)

with subtest("above memory_high, set while it runs, it gets on slowly, and is not killed"):
    declare("hog", "memory_high = '64M'")
    machine.succeed(f"({taking('hog', 80)} && touch /run/took) > /dev/null &")
    machine.wait_until_succeeds(f"test $(cat {SLICE}/container@hog.service/memory.current) -gt {63 * MEBIBYTE}", timeout=300)
    machine.succeed("sleep 10")
    held, high = mebibytes("hog"), count("hog", "memory.events", "high")
    machine.log(f"of 120 MiB it has {held:.1f}, {high} times above the limit of 64")
    t.assertTrue(60 < held < 90 and high > 0, held)
    machine.fail("test -e /run/took")

with subtest("with the limit taken off, it goes on"):
    declare("hog", "")
    machine.wait_for_file("/run/took", timeout=300)
    t.assertEqual((invocation("hog"), count("hog", "memory.events", "oom_kill")), (before, 0))
    high = count("hog", "memory.events", "high")

machine.succeed("dd if=/dev/zero of=/srv/swap bs=1M count=400 && chmod 600 /srv/swap && mkswap /srv/swap && swapon /srv/swap")

with subtest("set below what it has, the limit has the rest reclaimed"):
    t.assertLess(mebibytes("hog", "memory.swap.current"), 1)
    declare("hog", "memory_high = '24M'")
    machine.wait_until_succeeds(f"test $(cat {SLICE}/container@hog.service/memory.current) -le {25 * MEBIBYTE}", timeout=300)
    machine.log(f"it has {mebibytes('hog'):.1f} MiB, and {mebibytes('hog', 'memory.swap.current'):.1f} MiB in swap")
    t.assertTrue(take("hog", 60))
    t.assertGreater(count("hog", "memory.events", "high"), high)
    t.assertLess(mebibytes("hog"), 30)
    t.assertGreater(mebibytes("hog", "memory.swap.current"), 10)
    t.assertEqual((invocation("hog"), count("hog", "memory.events", "oom_kill")), (before, 0))

with subtest("with no swap, what does not fit into memory_max is killed"):
    declare("calm", "memory_max = '64M', memory_swap_max = 0")
    before = invocation("calm")
    t.assertFalse(take("calm", 150))
    t.assertEqual((of("calm", "memory.swap.max"), mebibytes("calm", "memory.swap.peak")), ("0", 0))

with subtest("with some swap, it is used up first"):
    declare("calm", "memory_max = '64M', memory_swap_max = '32M'")
    t.assertTrue(take("calm", 75))
    t.assertFalse(take("calm", 150))
    peak = mebibytes("calm", "memory.swap.peak")
    machine.log(f"of 32 MiB of swap, {peak:.1f} were used")
    t.assertTrue(28 < peak <= 32, peak)

with subtest("with swap unlimited, it lives"):
    declare("calm", "memory_max = '64M'")
    t.assertTrue(take("calm", 150))
    t.assertGreater(mebibytes("calm", "memory.swap.peak"), 80)
    t.assertEqual(invocation("calm"), before)
    t.assertEqual(count("calm", "memory.events", "oom_kill"), 2)

with subtest("zswap has a limit of its own, where the kernel has zswap"):
    zswap = machine.execute("test -e /sys/module/zswap && echo Y > /sys/module/zswap/parameters/enabled")[0] == 0
    machine.log(f"this kernel has {'' if zswap else 'no '}zswap")
    # How much a process of 150 MiB has put there: all goes through it, nothing, and as much as fits.
    for limit, bytes_, used in [("", None, True), (", memory_zswap_max = 0", 0, False), (", memory_zswap_max = '8M'", 8 * MEBIBYTE, True)]:
        declare("calm", f"memory_max = '64M'{limit}")
        # Without zswap only systemd knows the limit.
        t.assertEqual(machine.get_unit_property("container@calm.service", "MemoryZSwapMax"), "infinity" if bytes_ is None else str(bytes_))
        if zswap:
            t.assertEqual(of("calm", "memory.zswap.max"), "max" if bytes_ is None else str(bytes_))
            out = count("calm", "memory.stat", "zswpout")
            t.assertTrue(take("calm", 150))
            out = count("calm", "memory.stat", "zswpout") - out
            machine.log(f"{out} pages went to zswap, with a limit of {bytes_}")
            t.assertEqual(out > 1000, used)
            t.assertEqual(out > 0, used)
    t.assertEqual(invocation("calm"), before)
