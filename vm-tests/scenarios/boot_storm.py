# Many containers at a boot: no more start at once than the settings say, all come up, and the host's own services are served.

COUNT = 20
AT_ONCE = 4

machine.start(allow_reboot=True)
machine.wait_for_unit("nixmox-agent.service")
web = machine.succeed("static-guest web http=80").strip()
tables = "\n".join(f"[services.s{number}]\nsystem = '{web}'" for number in range(COUNT))
machine.succeed(
    f"mkdir -p /etc/nixmox && echo 'parallel_starts = {AT_ONCE}' > /etc/nixmox/agent.toml",
    "systemctl restart nixmox-agent.service",
    f"mkdir -p /srv/storm && cat > /srv/storm/nixmox.toml <<'E'\nformat = 1\n[stack]\nname = 'storm'\n{tables}\nE",
    "cd /srv/storm && nixmoxctl up",
)

with subtest("all return, a few at a time"):
    machine.reboot()
    machine.wait_for_unit("nixmox-agent.service")
    healthy = "[.services[] | select(.state == \"healthy\")] | length"
    machine.wait_until_succeeds(f"nixmoxctl -s storm status --json | jq -e '{healthy} == {COUNT}'", timeout=900)
    units = " ".join(f"container@s{number}.service" for number in range(COUNT))
    text = machine.succeed(f"systemctl show -P InactiveExitTimestampMonotonic -P ActiveEnterTimestampMonotonic {units}")
    numbers = [int(number) for number in text.split()]
    spans = sorted(zip(numbers[::2], numbers[1::2]))
    t.assertEqual(len(spans), COUNT)
    most = max(sum(begin <= moment < end for begin, end in spans) for moment, _ in spans)
    machine.log(f"{most} at once; all within {(max(end for _, end in spans) - spans[0][0]) / 1e6:.1f} s")
    t.assertLessEqual(most, AT_ONCE)
    t.assertGreater(most, 1, "they need not wait for each other")
