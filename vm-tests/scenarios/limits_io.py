# Bandwidth of a disk: bytes per second, read and written, as the kernel counts them.

import re

SLICE = "/sys/fs/cgroup/machine.slice/machine-nixmox.slice/machine-nixmox-disk.slice"
CGROUP = f"{SLICE}/container@disk.service"
MEBIBYTE = 1 << 20
# Limits, in bytes per second: far below what the slowest of machines moves.
WRITTEN = MEBIBYTE
READ = 3 * MEBIBYTE // 2


def declare(limits):
    machine.succeed(
        f"""mkdir -p /srv/disk && cat > /srv/disk/nixmox.toml <<'E'
format = 1
[stack]
name = "disk"
[services.disk]
system = "{rest}"
limits = {{ {limits} }}
E""",
        "cd /srv/disk && nixmoxctl up",
    )


def rate(direction, seconds):
    """Returns how many bytes a second a process of the service moves, past the cache, by the kernel's count."""
    copy = {
        "r": "dd if=/srv/data of=/dev/null iflag=direct bs=128k",
        "w": "dd if=/dev/zero of=/srv/data oflag=direct conv=notrunc bs=128k count=2048",
    }[direction]
    # Nothing is started between the clock and the count: that takes its time on a busy machine.
    look = f"read -r now _ < /proc/uptime; read -r -d '' count < {CGROUP}/io.stat || true"
    # It moves before the first look and until after the last one.
    text = machine.succeed(
        f"(echo $BASHPID > {CGROUP}/payload/cgroup.procs; exec timeout 600 bash -c 'while {copy}; do :; done' 2> /dev/null) > /dev/null & "
        f"{look}; first=$count; while [[ $count = \"$first\" ]]; do sleep 0.2; {look}; done; "
        f"echo $now $count; sleep {seconds}; {look}; echo $now $count; kill $!; wait || true"
    )
    looks = [(float(line.split()[0]), sum(map(int, re.findall(rf"\b{direction}bytes=(\d+)", line)))) for line in text.splitlines()]
    (began, before), (ended, after) = looks
    machine.log(f"{direction}: {(after - before) / (ended - began) / MEBIBYTE:.2f} MiB/s over {ended - began:.1f} s")
    return (after - before) / (ended - began)


machine.start()
machine.wait_for_unit("nixmox-agent.service")
machine.succeed("dd if=/dev/zero of=/srv/data bs=1M count=256 && sync")
rest = machine.succeed("static-guest rest").strip()
declare("")
before = machine.get_unit_property("container@disk.service", "InvocationID")

with subtest("without a limit it is faster"):
    t.assertGreater(rate("w", 5), 2 * WRITTEN)

with subtest("what it writes keeps to the limit, set while it runs"):
    declare(f"io_write_bandwidth_max = {{ '/dev/vda' = '{WRITTEN >> 10}K' }}")
    written = rate("w", 20)
    t.assertLess(abs(written - WRITTEN), 0.1 * WRITTEN)

with subtest("what it reads has a limit of its own"):
    declare(f"io_read_bandwidth_max = {{ '/dev/vda' = '{READ >> 10}K' }}")
    t.assertGreater(rate("w", 5), 2 * WRITTEN)
    read = rate("r", 20)
    t.assertLess(abs(read - READ), 0.1 * READ)
    t.assertEqual(machine.get_unit_property("container@disk.service", "InvocationID"), before)

with subtest("a service that was taken down leaves no limit to the next of its name"):
    machine.succeed("cd /srv/disk && nixmoxctl down")
    machine.fail("ls -d /run/systemd/system.control/container@disk.service*")
    machine.fail("test -e /run/systemd/system/container@disk.service.d")
    # Not `get_unit_property`: of a list that is empty, systemctl prints not even the name.
    t.assertEqual(machine.succeed("systemctl show -P IOReadBandwidthMax container@disk.service").strip(), "")
