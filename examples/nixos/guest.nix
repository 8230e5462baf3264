# What every guest brings: see "What a guest must bring" in docs/install.md.
{ lib, ... }:
{
  boot.isNspawnContainer = true;
  # Names of the other services, and whom to ask for all others: the agent keeps both files.
  environment.etc.hosts.source = lib.mkForce "/run/host/nixmox/hosts";
  environment.etc."resolv.conf".source = lib.mkDefault "/run/host/nixmox/resolv.conf";
  # It would write that file too.
  networking.resolvconf.enable = false;
  # The template sets address and route before the guest's init: a DHCP client would wait for an answer that nobody gives.
  networking.useDHCP = false;
  system.stateVersion = "26.05";
}
