# Slices with a kernel that enforces them: protection in every ancestor, a budget that holds, both changed live.
MIB = 1 << 20
STACK = "machine-nixmox-cloud.slice"
PATH = ["machine.slice", "machine-nixmox.slice", STACK]


def manifest(budget, quiet, hog=""):
    """Writes the stack: one service that is quiet, and one that holds 50 MiB."""
    text = f"""
format = 1
[stack]
name = "cloud"
limits = {{ {budget} }}
[services.quiet]
system = "{systems[0]}"
limits = {{ {quiet} }}
[services.hog]
system = "{systems[1]}"
limits = {{ {hog} }}
restart = "no"
"""
    machine.succeed(f"mkdir -p /srv/cloud; cat > /srv/cloud/nixmox.toml << 'END'\n{text}END")


def ctl(command):
    return machine.succeed(f"cd /srv/cloud && nixmoxctl {command} 2>&1")


def of_slice(depth, file):
    """Reads a file of the cgroup of the slice this deep, or of the quiet container's."""
    path = "/".join(PATH[:depth] + (["container@quiet.service"] if depth > len(PATH) else []))
    return machine.succeed(f"cat /sys/fs/cgroup/{path}/{file}").strip()


def protection(file):
    """Returns what every slice and the container protect, in MiB."""
    return [int(of_slice(depth, file)) // MIB for depth in range(1, 5)]


def invocation(name):
    return machine.get_unit_property(f"container@{name}.service", "InvocationID")


machine.start()
machine.wait_for_unit("nixmox-agent.service")
systems = [machine.succeed(f"static-guest {guest}").strip() for guest in ["quiet log=quiet", "hog hog=50"]]

# Said at plan time, and of what this machine lacks alone.
manifest('memory_max = "200T", io_weight = 50', "allowed_cpus = [0, 77]", 'io_read_bandwidth_max = { "/run" = "1M" }')
machine.succeed("for disk in /sys/block/vd*/queue/scheduler; do echo none > $disk; done")
said = " ".join(ctl("plan").split())
for words in [
    "`io_weight` of stack cloud has no effect: no disk's scheduler knows weights",
    "quiet: `allowed_cpus` names CPUs that this machine does not have: 77",
    "hog: `io_read_bandwidth_max` of /run has no effect",
    "the limits allow 200T of memory together",
    "[stack] cloud live memory_max unset -> 200T io_weight unset -> 50",
]:
    assert words in said, f"{words}: {said}"
assert "no controller" not in said, said

# Protection is what the kernel makes of every ancestor, and it is there from the first moment.
manifest(
    'memory_max = "400M", memory_swap_max = 0, tasks_max = 500',
    'memory_min = "16M", memory_low = "24M"',
    'memory_min = "8M"',
)
print(ctl("up"))
before = [invocation("quiet"), invocation("hog")]
assert protection("memory.min") == [24, 24, 24, 16], protection("memory.min")
assert protection("memory.low") == [24, 24, 24, 24], protection("memory.low")
assert of_slice(3, "memory.max") == str(400 * MIB) and of_slice(3, "pids.max") == "500"
# It is up before it holds all that it wants.
machine.wait_until_succeeds(f"test $(cat /sys/fs/cgroup/{'/'.join(PATH)}/memory.current) -gt {50 * MIB}", timeout=300)
assert "memory_recursiveprot" in machine.succeed("grep cgroup2 /proc/self/mounts")

# Changed live: other numbers in the kernel, the same instances, nothing left that wins over our file.
manifest('memory_max = "300M", memory_swap_max = 0, memory_min = "64M"', 'memory_min = "32M"')
print(ctl("up"))
assert protection("memory.min") == [64, 64, 64, 32], protection("memory.min")
assert protection("memory.low") == [0, 0, 0, 0], protection("memory.low")
assert of_slice(3, "memory.max") == str(300 * MIB) and of_slice(3, "pids.max") == "max"
assert [invocation("quiet"), invocation("hog")] == before
machine.succeed("systemctl daemon-reload")
assert protection("memory.min") == [64, 64, 64, 32], "it outlives a reload"
machine.succeed(f"test ! -e /run/systemd/system.control/{STACK}.d -a ! -e /run/systemd/system.control/machine.slice.d")

# What somebody else makes of it is put right.
machine.succeed(f"systemctl set-property --runtime {STACK} MemoryMax=250M")
machine.wait_until_succeeds(f"test $(cat /sys/fs/cgroup/{'/'.join(PATH)}/memory.max) = {300 * MIB}", timeout=300)

# The budget holds: no service has a limit, and what does not fit is killed within the slice.
manifest('memory_max = "40M", memory_swap_max = 0', "")
# Stopped first: who lowers a limit below what is used has the kernel kill at once, and not the largest alone.
ctl("stop hog")
machine.execute("cd /srv/cloud && nixmoxctl up --no-rollback")
machine.wait_until_succeeds("systemctl is-failed -q container@hog", timeout=300)
print(machine.succeed("journalctl -k | grep -i 'killed process'"))
events = dict(line.split() for line in of_slice(3, "memory.events.local").splitlines())
assert int(events["oom"]) > 0, events
assert int(of_slice(3, "memory.current")) <= 40 * MIB
assert invocation("quiet") == before[0] and machine.get_unit_property("container@quiet.service", "ActiveState") == "active"
print(ctl("status"))

# A budget that the services do not get by with goes back with them.
manifest('memory_max = "300M", memory_swap_max = 0', "")
print(ctl("up"))
machine.wait_for_unit("container@hog.service")
manifest('memory_max = "40M", memory_swap_max = 0', "")
print(machine.fail("cd /srv/cloud && nixmoxctl up 2>&1"))
assert of_slice(3, "memory.max") == str(300 * MIB)

# Nothing is left behind.
print(ctl("down"))
machine.wait_until_succeeds("! ls -d /run/systemd/system/machine*.slice.d /run/systemd/system/container@*.d", timeout=300)
machine.succeed("test -z \"$(ls -A /run/systemd/system.control 2>/dev/null)\"")
assert machine.get_unit_property(STACK, "MemoryMax") == "infinity"
