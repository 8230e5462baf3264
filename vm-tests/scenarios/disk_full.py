# A full disk under /var: what cannot be written is refused whole and said, nothing that runs is touched, and room heals it.

machine.start()
machine.wait_for_unit("nixmox-agent.service")
web = machine.succeed("static-guest web http=80").strip()


def declare(limits):
    machine.succeed(
        f"""mkdir -p /srv/full && cat > /srv/full/nixmox.toml <<'E'
format = 1
[stack]
name = "full"
[services.web]
system = "{web}"
limits = {{ {limits} }}
E"""
    )


declare("tasks_max = 100")
machine.succeed("cd /srv/full && nixmoxctl up")
before = machine.get_unit_property("container@web.service", "InvocationID")
generation = machine.succeed("readlink /var/lib/nixmox/current")

# A file system of its own for the state, so that the machine itself goes on: /var of many hosts is one.
machine.succeed(
    "systemctl stop nixmox-agent.service nixmox-agent.socket",
    "truncate -s 8M /root/var.img && mkfs.ext4 -q -m 0 /root/var.img && mount /root/var.img /mnt && cp -a /var/lib/nixmox/. /mnt/",
    "umount /mnt && mount /root/var.img /var/lib/nixmox",
    "systemctl start nixmox-agent.socket nixmox-agent.service",
)
machine.wait_for_unit("nixmox-agent.service")

with subtest("an `up` is refused whole"):
    machine.execute("dd if=/dev/zero of=/var/lib/nixmox/filler bs=4k 2>/dev/null; sync")
    machine.fail("dd if=/dev/zero of=/var/lib/nixmox/more bs=4k count=4 2>/dev/null")
    declare("tasks_max = 200")
    said = machine.fail("cd /srv/full && nixmoxctl up 2>&1")
    t.assertIn("No space left on device", said)
    t.assertIn("nothing was changed", said)
    t.assertEqual(machine.succeed("readlink /var/lib/nixmox/current"), generation)
    t.assertEqual(machine.get_unit_property("container@web.service", "TasksMax"), "100")

with subtest("what runs, runs; and the agent answers, also a new one"):
    machine.succeed("systemctl kill --signal=KILL nixmox-agent.service; sleep 2")
    machine.wait_until_succeeds("nixmoxctl -s full status", timeout=300)
    t.assertEqual(machine.get_unit_property("container@web.service", "InvocationID"), before)

with subtest("with room again it is done"):
    machine.succeed("rm /var/lib/nixmox/filler", "rm -f /var/lib/nixmox/more", "cd /srv/full && nixmoxctl up")
    t.assertEqual(machine.get_unit_property("container@web.service", "TasksMax"), "200")
    t.assertEqual(machine.get_unit_property("container@web.service", "InvocationID"), before)
