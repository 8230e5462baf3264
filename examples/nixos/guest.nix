# What every guest brings: see "What a guest must bring" in docs/install.md.
{ lib, ... }:
{
  boot.isContainer = true;
  # Names of the other services, and whom to ask for all others: the agent keeps both files.
  environment.etc.hosts.source = lib.mkForce "/run/host/nixmox/hosts";
  environment.etc."resolv.conf".source = "/run/host/nixmox/resolv.conf";
  system.stateVersion = "25.05";
}
