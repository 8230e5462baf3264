# Expected: services.nixmox.enable: with system.stateVersion before 22.05, NixOS keeps containers in /var/lib/containers, where the agent does not look.
{ system.stateVersion = "21.11"; }
