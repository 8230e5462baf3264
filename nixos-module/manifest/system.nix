# What a container's root runs: a store path or a flake's output as text, a package, or a NixOS module that is evaluated here.
{
  lib,
  pkgs,
}:
let
  inherit (lib) types;
in
{
  # A package and a path are modules too, as far as their type can tell: they come first.
  type = types.oneOf [
    types.nonEmptyStr
    types.package
    types.deferredModule
  ];

  # Whether a value is a module, and so a guest that is evaluated here.
  isModule = value: value != null && !lib.isString value && !value ? outPath;

  # The configuration of such a guest. `place` is the option's, for messages.
  evaluate =
    {
      module,
      name,
      place,
    }:
    (import "${toString pkgs.path}/nixos/lib/eval-config.nix" {
      inherit lib;
      # That of `nixpkgs.pkgs` below.
      system = null;
      prefix = place;
      modules = [
        ../guest.nix
        {
          networking.hostName = lib.mkDefault name;
          # The host's packages, overlays included, evaluated once for all guests.
          nixpkgs.pkgs = lib.mkDefault pkgs;
        }
        module
      ];
    }).config;
}
