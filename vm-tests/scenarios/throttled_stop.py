# A service that is slowed down at `memory_high` until nothing moves is stopped as quickly as any other.
GROUP = "/sys/fs/cgroup/machine.slice/machine-nixmox.slice/machine-nixmox-slow.slice/container@hog.service"

machine.start()
machine.wait_for_unit("nixmox-agent.service")
system = machine.succeed("static-guest hog hog=120").strip()
# With nowhere to go, memory is only asked for again and again.
machine.succeed("swapoff --all; mkdir -p /srv/slow")

machine.succeed(f"""cat > /srv/slow/nixmox.toml <<'E'
format = 1
[stack]
name = 'slow'
[services.hog]
system = '{system}'
limits = {{ memory_high = '64M' }}
E""")

with subtest("it is held at its limit"):
    machine.succeed("cd /srv/slow && nixmoxctl up --detach")
    machine.wait_until_succeeds(f"test $(awk '/^high/ {{ print $2 }}' {GROUP}/memory.events) -gt 100", timeout=600)

with subtest("it is stopped all the same, by nobody's time limit"):
    machine.succeed("cd /srv/slow && timeout 120 nixmoxctl stop hog")
    t.assertNotIn("timed out", machine.succeed("journalctl --boot -u container@hog.service -o cat"))
    # What was lifted for it is not what it starts with next.
    machine.succeed("test ! -e /run/systemd/system.control/container@hog.service.d")
    t.assertEqual(machine.get_unit_property("container@hog.service", "MemoryHigh"), str(64 << 20))
