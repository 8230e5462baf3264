# What `system` may be: a file with a module, a package, a store path, an output of a flake, a system that was evaluated elsewhere.
{ pkgs, ... }:
{
  services.nixmox.stacks.kinds.services = {
    file.system = ../guest-in-a-file.nix;
    package.system = pkgs.writeText "nixos-system-package" "";
    path.system = "/nix/store/00000000000000000000000000000000-nixos-system-path";
    flake.system = "github:owner/repository#flake";
    # A guest that knows whom to ask for names.
    resolver.system.services.resolved.enable = true;
    # Two places define one guest.
    merged.system.imports = [
      { services.openssh.enable = true; }
      { networking.hostName = "another"; }
    ];
  };
}
