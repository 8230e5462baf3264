# What nixpkgs' own tests of containers assert, as far as it takes NixOS's own template, a guest of NixOS, and a switch.
# docs/nixos-containers.md has the whole list.

ROOT = "/var/lib/nixos-containers"


def declare(services):
    head = 'format = 1\n[stack]\nname = "rows"\n'
    machine.succeed(f"mkdir -p /srv/rows && cat > /srv/rows/nixmox.toml <<'E'\n{head}{services}\nE")


def ctl(arguments):
    return machine.succeed(f"cd /srv/rows && timeout 300 nixmoxctl {arguments} 2>&1")


def within(name, command):
    return machine.succeed(f"nixos-container run {name} -- {command}").strip()


def invocation(name):
    return machine.get_unit_property(f"container@{name}.service", "InvocationID")


machine.start()
machine.wait_for_unit("nixmox-stacks.service")
web = machine.succeed("static-guest web http=80").strip()
guest = machine.succeed("sed -n s/^SYSTEM_PATH=//p /etc/nixos-containers/guest.conf").strip()

with subtest("inside: the unified hierarchy, a shell that reads a script, and Nix"):
    t.assertEqual(within("guest", "stat -f -c %T /sys/fs/cgroup"), "cgroup2fs")
    for shell in ["nixos-container root-login", "nixmoxctl shell"]:
        t.assertEqual(machine.succeed(f"echo 'echo It works' | {shell} guest").strip(), "It works")
    t.assertEqual(within("guest", "nix-instantiate --eval --expr '1 + 1'"), "2")
    t.assertEqual(within("guest", "sh -c 'test -e $(readlink -f /run/current-system)/init && echo there'"), "there")

with subtest("names longer than those of links, and a published port"):
    names = ["really-long-name-of-one", "really-long-name-of-two"]
    declare("\n".join(f'[services.{name}]\nsystem = "{web}"' for name in names) + '\nnetwork = { ports = ["10080:80"] }')
    ctl("up")
    links = [machine.succeed(f"ip -j link show ve-{name} | jq -r '.[0].ifname'").strip() for name in names]
    t.assertEqual(len(set(links)), 2)
    for name in names:
        machine.wait_until_succeeds(f"curl -sf --noproxy '*' --max-time 2 http://$(nixos-container show-ip {name})/", timeout=60)
    machine.succeed("curl -sf --noproxy '*' http://127.0.0.1:10080/")
    # systemd-networkd, which runs there, gives the host's ends no addresses of its own.
    machine.succeed("systemctl is-active systemd-networkd")
    for name in names:
        addresses = machine.succeed(f"ip -j -4 address show ve-{name} | jq '[.[].addr_info[]?.local] | length'")
        t.assertEqual(addresses.strip(), "1")
    ctl(f"stop {names[1]}")
    machine.fail("curl -sf --noproxy '*' --max-time 2 http://127.0.0.1:10080/")
    machine.fail(f"ip link show ve-{names[1]}")
    ctl("down")

with subtest("an ephemeral root, and memory in it"):
    declare(f'[services.passing]\nsystem = "{guest}"\nephemeral = true\ntmpfs = ["/var/cache", "/some/random/path"]')
    ctl("up")
    machine.succeed("test -d /run/nixos-containers/passing/var")
    machine.fail(f"test -e {ROOT}/passing")
    for path in ["/var/cache", "/some/random/path"]:
        t.assertEqual(within("passing", f"stat -f -c %T {path}"), "tmpfs")
        within("passing", f"touch {path}/within")
        machine.fail(f"test -e /run/nixos-containers/passing{path}/within")
    ctl("stop")
    machine.fail(f"test -e /run/nixos-containers/passing || test -e {ROOT}/passing")
    ctl("down")

with subtest("a port of a bridge"):
    machine.succeed("ip link add br-test type bridge && ip address add 192.0.2.129/25 dev br-test && ip link set br-test up")
    declare(f'[services.bridged]\nsystem = "{guest}"\nnetwork = {{ mode = "bridge", bridge = "br-test" }}')
    ctl("up")
    within("bridged", "ip link show eth0")
    within("bridged", "ip address add 192.0.2.130/25 dev eth0")
    machine.wait_until_succeeds("ping -c 1 -W 1 192.0.2.130", timeout=60)
    ctl("down")
    machine.succeed("ip link delete br-test")

with subtest("a mount pulls its unit in, and the end of that takes the container down"):
    unit = "[Mount]\nWhat=tmpfs\nWhere=/mnt/disk\nType=tmpfs"
    machine.succeed(f"cat > /run/systemd/system/mnt-disk.mount <<'E'\n{unit}\nE", "systemctl daemon-reload")
    declare(f'[services.pulls]\nsystem = "{guest}"\nmounts = [{{ source = "/mnt/disk/data", target = "/data", create = true }}]')
    ctl("up")
    machine.succeed("systemctl is-active mnt-disk.mount")
    within("pulls", "touch /data/within")
    machine.succeed("test -e /mnt/disk/data/within", "systemctl stop mnt-disk.mount")
    t.assertEqual(machine.succeed("nixos-container status pulls").strip(), "down")
    ctl("down")

with subtest("a guest that boots is stopped, and starts again; and one without machined"):
    declare(f'[services.early]\nsystem = "{guest}"')
    ctl("up --detach")
    machine.wait_until_succeeds("machinectl show early", timeout=60)
    machine.succeed("timeout 60 nixmoxctl stop early")
    machine.fail("machinectl show early")
    ctl("up")
    machine.succeed("systemctl stop systemd-machined", "timeout 60 nixos-container stop early")
    t.assertEqual(machine.succeed("nixos-container status early").strip(), "down")
    ctl("down")

with subtest("a switch applies what changed inside, takes out what is gone, and restarts nothing"):
    before = invocation("guest")
    machine.succeed("/run/booted-system/specialisation/changed/bin/switch-to-configuration test")
    t.assertEqual(within("guest", "cat /etc/second"), "second")
    machine.fail("nixos-container run guest -- test -e /etc/first")
    t.assertEqual(invocation("guest"), before)
