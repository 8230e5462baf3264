# Bandwidth of a disk: bytes per second, read and written, as the kernel counts them.

SLICE = "/sys/fs/cgroup/machine.slice/machine-nixmox.slice/machine-nixmox-disk.slice"
CGROUP = f"{SLICE}/container@disk.service"
MEBIBYTE = 1 << 20


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
        "r": "dd if=/srv/data of=/dev/null iflag=direct bs=256k",
        "w": "dd if=/dev/zero of=/srv/data oflag=direct conv=notrunc bs=256k count=1024",
    }[direction]
    read = f"{{ cut -d ' ' -f 1 /proc/uptime; tr ' ' '\\n' < {CGROUP}/io.stat | grep {direction}bytes= || echo =0; }}"
    text = machine.succeed(
        f"(echo $BASHPID > {CGROUP}/payload/cgroup.procs; exec timeout {seconds + 2} bash -c 'while {copy}; do :; done' 2> /dev/null) > /dev/null & "
        f"sleep 1; {read}; sleep {seconds}; {read}; wait || true"
    )
    began, before, ended, after = [float(line.rpartition("=")[2]) for line in text.split()]
    machine.log(f"{direction}: {(after - before) / (ended - began) / MEBIBYTE:.2f} MiB/s over {ended - began:.1f} s")
    return (after - before) / (ended - began)


machine.start()
machine.wait_for_unit("nixmox-agent.service")
machine.succeed("dd if=/dev/zero of=/srv/data bs=1M count=256 && sync")
rest = machine.succeed("static-guest rest").strip()
declare("")
before = machine.get_unit_property("container@disk.service", "InvocationID")

with subtest("without a limit it is faster"):
    t.assertGreater(rate("w", 5), 4 * MEBIBYTE)

with subtest("what it writes keeps to the limit, set while it runs"):
    declare("io_write_bandwidth_max = { '/dev/vda' = '2M' }")
    written = rate("w", 20)
    t.assertLess(abs(written - 2 * MEBIBYTE), 0.1 * 2 * MEBIBYTE)

with subtest("what it reads has a limit of its own"):
    declare("io_read_bandwidth_max = { '/dev/vda' = '3M' }")
    t.assertGreater(rate("w", 5), 4 * MEBIBYTE)
    read = rate("r", 20)
    t.assertLess(abs(read - 3 * MEBIBYTE), 0.1 * 3 * MEBIBYTE)
    t.assertEqual(machine.get_unit_property("container@disk.service", "InvocationID"), before)

with subtest("a service that was taken down leaves no limit to the next of its name"):
    machine.succeed("cd /srv/disk && nixmoxctl down")
    machine.fail("ls -d /run/systemd/system.control/container@disk.service*")
    machine.fail("test -e /run/systemd/system/container@disk.service.d")
    # Not `get_unit_property`: of a list that is empty, systemctl prints not even the name.
    t.assertEqual(machine.succeed("systemctl show -P IOReadBandwidthMax container@disk.service").strip(), "")
