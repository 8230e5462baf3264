# Installs what is to be tested from the second disk, as a package would, before any scenario.
machine.start()
machine.succeed("mkdir -p /run/programs && mount -o ro /dev/vdb /run/programs && cp -a --no-preserve=ownership /run/programs/. /")
machine.succeed("umount /run/programs && rm -rf /lost+found")
machine.succeed("systemd-sysusers && systemd-tmpfiles --create nixmox.conf && sysctl --quiet --system")
machine.succeed(
    "mkdir -p /nix/var/nix/gcroots/testbed && "
    "ln -s $(nix-store --add /usr/lib/vm-tests/static-guest) /nix/var/nix/gcroots/testbed/static-guest"
)
machine.succeed("systemctl daemon-reload && systemctl enable --now nixmox-agent.socket nixmox-agent.service")
machine.wait_for_unit("nixmox-agent.service")
