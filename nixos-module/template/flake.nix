{
  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
    nixmox.url = "github:nixmox/nixmox";
    nixmox.inputs.nixpkgs.follows = "nixpkgs";
  };

  outputs =
    { nixpkgs, nixmox, ... }:
    {
      nixosConfigurations.homelab = nixpkgs.lib.nixosSystem {
        modules = [
          nixmox.nixosModules.default
          # That of your machine, as `nixos-generate-config` writes it, comes beside these.
          ./configuration.nix
          ./stack.nix
        ];
      };
    };
}
