# NixMox on a NixOS host: `services.nixmox`. One subject a file:
#
#   services.nixmox ─┬─ agent.nix       the programs, the agent's settings and units
#                    ├─ access.nix      who may look and who may change
#                    ├─ network.nix     what the host's network lets containers do
#                    └─ stacks ─┬─ stacks.nix      options, and the manifests that become /etc/nixmox/stacks
#                               ├─ adopt.nix       containers of the host that a stack takes over
#                               ├─ assertions.nix  mistakes that only the whole configuration shows
#                               ├─ services/       ready services, a file each
#                               └─ deploy.nix      `nixos-rebuild switch` goes through the agent's plan
#
# The keys of a manifest, their types and their texts come from manifest/. guest.nix and job.nix are for
# containers, not for the host.
{
  imports = [
    ./access.nix
    ./adopt.nix
    ./agent.nix
    ./assertions.nix
    ./deploy.nix
    ./network.nix
    ./services
    ./stacks.nix
  ];
}
