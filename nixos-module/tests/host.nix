# The host of every case: as little of a NixOS as can be evaluated whole.
{ lib, ... }:
{
  imports = [ ../. ];

  boot.isContainer = true;
  nixpkgs.hostPlatform = lib.mkDefault "x86_64-linux";
  nixpkgs.overlays = [ (final: _: { nixmox = final.callPackage ../package.nix { }; }) ];
  services.nixmox.enable = true;
  system.stateVersion = lib.mkDefault "26.05";
}
