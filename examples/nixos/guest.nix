# What every guest brings: see "What a guest must bring" in docs/install.md.
{ lib, ... }:
{
  boot.isContainer = true;
  # Names of the other services, which the agent keeps in this file.
  environment.etc.hosts.source = lib.mkForce "/run/host/nixmox/hosts";
  system.stateVersion = "25.05";
}
