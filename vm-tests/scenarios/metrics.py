# The figures for Prometheus are the kernel's own: of memory, CPU time, kills, pressure, disks and tasks, and restarts are counted.
# What a page costs is told; that the agent does not grow by it is tested.
import statistics

CGROUP = "/sys/fs/cgroup/machine.slice/machine-nixmox.slice/machine-nixmox-gauge.slice/container@load.service"
SOCKET = "/run/nixmox/metrics.sock"
GET = f"curl --fail --silent --unix-socket {SOCKET} http://localhost/metrics"
MIB = 1 << 20
# In what file a figure stands, behind what, and how many of its units there are in the kernel's.
CPU = "container_cpu_usage_seconds_total"
COUNTERS = {
    CPU: ("cpu.stat", "usage_usec ", 1e6),
    "container_oom_events_total": ("memory.events", "oom_kill ", 1),
    "container_fs_reads_bytes_total": ("io.stat", " rbytes=", 1),
    "container_fs_writes_bytes_total": ("io.stat", " wbytes=", 1),
} | {
    f"container_pressure_{resource}_{word}_seconds_total": (f"{resource}.pressure", f"{line} avg10=.* total=", 1e6)
    for resource in ["cpu", "memory", "io"]
    for line, word in [("some", "waiting"), ("full", "stalled")]
}
GAUGES = {
    "container_memory_usage_bytes": "memory.current",
    "container_memory_swap": "memory.swap.current",
    "container_spec_memory_limit_bytes": "memory.max",
    "nixmox_service_memory_high_bytes": "memory.high",
    "container_threads": "pids.current",
    "container_threads_max": "pids.max",
}


def declare(limits):
    table = f"[services.load]\nsystem = '{system}'\nlimits = {{ cpu_quota = '40%', {limits} }}"
    machine.succeed(
        f"mkdir -p /srv/gauge && cat > /srv/gauge/nixmox.toml <<'E'\nformat = 1\n[stack]\nname = 'gauge'\n{table}\nE",
        "cd /srv/gauge && nixmoxctl up",
    )


def scrape():
    """Returns the figures of a page that is made now: one that somebody else asked for is given for a second."""
    page = machine.succeed(f"sleep 1.1; {GET}")
    lines = [line.rpartition(" ") for line in page.splitlines() if not line.startswith("#")]
    return {name.replace('{name="load",stack="gauge"}', ""): float(value) for name, _, value in lines}


def counted():
    """Returns what the kernel has counted."""
    read = "; ".join(f"echo $(sed -n 's/.*{key}\\([0-9]*\\).*/\\1/p' {CGROUP}/{file})" for file, key, _ in COUNTERS.values())
    # Of every disk one number.
    sums = [sum(map(int, line.split())) for line in machine.succeed(read).split("\n")]
    return {name: total / unit for (name, (_, _, unit)), total in zip(COUNTERS.items(), sums)}


def compare(moved):
    """Holds a page against the kernel, looked at before and after; `moved` are the counters that must not be 0. Returns both."""
    before, page, after = counted(), scrape(), counted()
    for name in COUNTERS:
        machine.log(f"{name}: {page[name]:.12g}, the kernel's {before[name]:.12g} to {after[name]:.12g}")
        t.assertTrue(before[name] <= page[name] <= after[name], name)
    t.assertEqual([name for name in moved if page[name] == 0], [])
    for name, file in GAUGES.items():
        told = machine.succeed(f"cat {CGROUP}/{file}").strip()
        machine.log(f"{name}: {page.get(name, 'not there')}, the kernel's {told}")
        t.assertAlmostEqual(page.get(name, -1), -1 if told == "max" else int(told), delta=MIB if file == "memory.current" else 0)
    return page, after


def works(command):
    """Has a process of the service do this, which goes before the guest does."""
    machine.execute(f"(echo 1000 > /proc/self/oom_score_adj; echo $BASHPID > {CGROUP}/payload/cgroup.procs; {command})")


def resident(process):
    return int(machine.succeed(f"grep VmRSS /proc/{process}/status").split()[1]) << 10


machine.start()
machine.wait_for_unit("nixmox-agent.service")
machine.succeed("dd if=/dev/zero of=/srv/data bs=1M count=20 && sync")
machine.fail(GET)
settings = f"printf '[metrics]\\nlisten = \"{SOCKET}\"\\n' > /etc/nixmox/agent.toml"
machine.succeed(f"mkdir -p /etc/nixmox && {settings} && systemctl restart nixmox-agent")
system = machine.succeed("static-guest load spin=1 hog=30 forks=7").strip()
declare("")

with subtest("what is used is what the kernel says, and no limit is no figure"):
    machine.wait_until_succeeds(f"(( $(cat {CGROUP}/memory.current) > {30 * MIB} && $(cat {CGROUP}/pids.current) > 8 ))", timeout=300)
    page, kernel = compare([CPU])
    t.assertNotIn("container_spec_memory_limit_bytes", page)

with subtest("over a while, its CPU time grows as the kernel's does"):
    more = int((kernel[CPU] + 5) * 1e6)
    machine.wait_until_succeeds(f"(( $(sed -n 's/^usage_usec //p' {CGROUP}/cpu.stat) > {more} ))")
    later, _ = compare([CPU])
    machine.log(f"it used {later[CPU] - page[CPU]:.2f} s, and 5 s at least by the kernel's count")
    t.assertGreaterEqual(later[CPU] - page[CPU], 5)

with subtest("limits, kills, pressure and disks"):
    declare("memory_max = '80M', tasks_max = 50")
    works("dd if=/dev/zero of=/srv/data oflag=direct bs=64k count=200 && dd if=/srv/data of=/dev/null iflag=direct bs=64k count=200")
    for _ in range(2):
        works("yes nixmox | dd of=/dev/null iflag=fullblock bs=150M count=1")
    page, _ = compare(COUNTERS)
    kills, limit, tasks = (page[f"container_{name}"] for name in ["oom_events_total", "spec_memory_limit_bytes", "threads_max"])
    t.assertEqual((kills, limit, tasks), (2, 80 * MIB, 50))
    t.assertGreaterEqual(min(page[f"container_fs_{way}_bytes_total"] for way in ["reads", "writes"]), 200 << 16)
    declare("memory_high = '70M'")
    t.assertEqual(compare([])[0]["nixmox_service_memory_high_bytes"], 70 * MIB)

with subtest("restarts are counted, and each run begins anew"):
    t.assertEqual(page["nixmox_service_restarts_total"], 0)
    machine.succeed(f"nixmoxctl restart load && sleep 1.1 && {GET} | grep '^nixmox_service_restarts_total.* 1$'")
    machine.succeed("systemctl kill --signal=KILL container@load")
    machine.wait_until_succeeds(f"{GET} | grep -cE '^nixmox_service_(restarts_total.* 2|healthy.* 1)$' | grep 2", timeout=300)
    t.assertEqual(compare([CPU])[0]["container_oom_events_total"], 0)

with subtest("the agent does not grow by being asked"):
    agent = machine.get_unit_property("nixmox-agent.service", "MainPID")
    before = resident(agent)
    t.assertAlmostEqual(scrape()["process_resident_memory_bytes"], before, delta=MIB)
    # The agent's CPU time is another in each page that was made; who got it first is who waited for it.
    one = f"{GET} --write-out '\\ntook %{{time_total}}\\n' | grep -E '^(took|process_cpu_seconds)'"
    told = machine.succeed(f"for _ in $(seq 200); do {one}; done").splitlines()
    took = [float(line.split()[1]) * 1e3 for line in told[1::2]]
    made = dict(zip(reversed(told[::2]), reversed(took))).values()
    for what, times in [("scrapes", took), ("of them had a page made", made)]:
        machine.log(f"{len(times)} {what}: median {statistics.median(times):.1f} ms, longest {max(times):.1f} ms")
    machine.log(f"agent: {before / MIB:.2f} MiB resident before, {resident(agent) / MIB:.2f} MiB after")
    t.assertLessEqual(resident(agent) - before, MIB)
