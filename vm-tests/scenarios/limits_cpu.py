# CPU time: quota, weight and allowed CPUs are kept by the kernel, and change while the service runs.

SLICE = "/sys/fs/cgroup/machine.slice/machine-nixmox.slice/machine-nixmox-limits.slice"
# Over how long shares are measured, in seconds.
WINDOW = 20


def declare(services):
    tables = "\n".join(f"[services.{name}]\nsystem = '{system}'\nlimits = {{ {limits} }}" for name, system, limits in services)
    machine.succeed(
        f"mkdir -p /srv/limits && cat > /srv/limits/nixmox.toml <<'E'\nformat = 1\n[stack]\nname = 'limits'\n{tables}\nE",
        "cd /srv/limits && nixmoxctl up",
    )


def invocation(name):
    return machine.get_unit_property(f"container@{name}.service", "InvocationID")


def shares(*names):
    """Returns how many CPUs each service used, by the guest's own clock."""
    read = "; ".join(f"grep usage_usec {SLICE}/container@{name}.service/cpu.stat" for name in names)
    read = f"{{ cut -d ' ' -f 1 /proc/uptime; {read}; }}"
    words = machine.succeed(f"{read}; sleep {WINDOW}; {read}").split()
    numbers = [float(word) for word in words if word != "usage_usec"]
    before, after = numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :]
    took = after[0] - before[0]
    used = [(end - begin) / 1e6 / took for begin, end in zip(before[1:], after[1:])]
    machine.log(f"shares of a CPU over {took:.1f} s: " + ", ".join(f"{name} {share:.3f}" for name, share in zip(names, used)))
    return used


def within_a_tenth(measured, asked):
    t.assertLess(abs(measured - asked), asked / 10, f"{measured} is not {asked}")


machine.start()
machine.wait_for_unit("nixmox-agent.service")
spin = machine.succeed("static-guest spin spin=1").strip()

with subtest("a quota is kept, and changes while the service runs"):
    declare([("one", spin, "")])
    before = invocation("one")
    (free,) = shares("one")
    t.assertGreater(free, 0.8, "without a quota it takes what it gets")
    declare([("one", spin, "cpu_quota = '30%'")])
    (held,) = shares("one")
    within_a_tenth(held, 0.3)
    t.assertEqual(invocation("one"), before, "a quota is a live change")

with subtest("weights share one CPU, on which both are allowed"):
    on_one = "allowed_cpus = '1'"
    declare([("one", spin, on_one), ("two", spin, f"{on_one}, cpu_weight = 300")])
    t.assertEqual(invocation("one"), before)
    for name in ["one", "two"]:
        t.assertEqual(machine.succeed(f"cat {SLICE}/container@{name}.service/cpuset.cpus.effective").strip(), "1")
    one, two = shares("one", "two")
    within_a_tenth(one / (one + two), 0.25)
    within_a_tenth(two / (one + two), 0.75)
    t.assertLess(one + two, 1.05, "both run on one CPU")

with subtest("what is taken out of the manifest is taken off, and nothing of it stays"):
    declare([("one", spin, "")])
    t.assertEqual(invocation("one"), before)
    t.assertEqual(machine.succeed(f"cat {SLICE}/container@one.service/cpuset.cpus.effective").strip(), "0-1")
    t.assertEqual(machine.succeed(f"cut -d ' ' -f 1 {SLICE}/container@one.service/cpu.max").strip(), "max")
    machine.fail("test -e /run/systemd/system.control/container@one.service.d")
    machine.fail("grep -E 'CPU' /run/systemd/system/container@one.service.d/10-nixmox.conf")
