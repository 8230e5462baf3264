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

  # The text for the manifest. `place` is the option's, for messages.
  resolve =
    {
      name,
      place,
      value,
    }:
    if lib.isString value then
      value
    else if value ? outPath then
      "${value}"
    else
      let
        evaluated = import "${toString pkgs.path}/nixos/lib/eval-config.nix" {
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
            value
          ];
        };
      in
      "${evaluated.config.system.build.toplevel}";
}
