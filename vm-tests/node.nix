# The machine of the scenarios as a NixOS: what tests/testbed/assets/finish-*.sh and image/ make of a Debian.
#
# Looked at where the two systems differ, for what scenarios name or expect:
#
#   /nix/store                   they know no path of it but what `static-guest` prints, which has to outlive a reboot
#   /etc/nixmox/agent.toml       they write it; NixOS has a link into the store there, and makes it anew at each boot
#   /etc/nixos-containers        the agent's, writable on both: NixOS links single files into it
#   /usr, units, the agent       no scenario names a file of ours: to change them is left to `upgrade-agent`
#   container@.service           NixOS's own; drop-ins in /run/systemd/system, cgroups and root folders are the same
#   init of a static guest       a line of shell that NixOS's template reads, where ours executes the program: guest.nix
#   /srv, /mnt                   of every Debian
#   /dev/vda, two CPUs, 2 GiB    limits name the disk and the CPUs; the machine is as large as that of QEMU
#   memory                       NixOS's tests panic where a limit of memory kills, and systemd-oomd watches by default
#   the clock, the journal       nobody corrects the one; the other drops no line, and is there after a reboot
#   programs                     what they call that not every NixOS has
#   /dev/ttyS0, strace           of a scenario that is not run on NixOS
{
  config,
  lib,
  pkgs,
  ...
}:
let
  guest = pkgs.pkgsStatic.callPackage ./guest.nix { };
  inherit (config.services.nixmox) package;
in
{
  services.nixmox.enable = true;
  # The folders of containers have their names from 22.05 on.
  system.stateVersion = "26.05";

  # The module's file is what an agent without one takes for granted.
  environment.etc."nixmox/agent.toml".enable = lib.mkForce false;

  environment.systemPackages = [
    pkgs.curl
    pkgs.jq
    (pkgs.writeScriptBin "static-guest" (builtins.readFile ./image/static-guest))
    (pkgs.writeScriptBin "upgrade-agent" ''
      #!/bin/sh
      # Installs the agent anew, as a switch to the next system does: another file, another unit. The next is one of two, in turns.
      set -eu
      system=/run/booted-system
      if [ "$(readlink -f /run/current-system)" = "$(readlink -f "$system")" ]; then
          system=$system/specialisation/upgraded
      fi
      exec "$system/bin/switch-to-configuration" test
    '')
  ];
  specialisation.upgraded.configuration = {
    services.nixmox.package = lib.mkForce (
      pkgs.runCommand "nixmox-upgraded" { } "cp -r ${package} $out"
    );
  };
  system.switch.enable = true;

  systemd.tmpfiles.rules = [
    "d /mnt 0755 root root -"
    "d /srv 0755 root root -"
    "L+ /nix/var/nix/gcroots/testbed/static-guest - - - - ${guest}"
  ];

  nix.enable = true;
  virtualisation = {
    cores = 2;
    memorySize = 2048;
    diskSize = 4096;
    writableStore = true;
    writableStoreUseTmpfs = false;
  };

  boot.kernel.sysctl."vm.panic_on_oom" = 0;
  systemd.oomd.enable = false;
  services.timesyncd.enable = lib.mkForce false;
  services.journald.rateLimitBurst = 0;
}
