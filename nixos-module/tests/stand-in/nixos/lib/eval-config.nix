# The evaluation of a system: modules in, `config` and `options` out.
{
  lib ? import ../../lib,
  # Of old; what counts is `nixpkgs.hostPlatform`.
  system ? null,
  modules,
  prefix ? [ ],
  specialArgs ? { },
}:
let
  inherit (evaluated.config) nixpkgs;
  pkgs =
    if nixpkgs.pkgs != null then
      nixpkgs.pkgs
    else
      import ../.. {
        inherit lib;
        inherit (nixpkgs) overlays;
        system = if system == null then nixpkgs.hostPlatform else system;
      };
  evaluated = lib.evalModules {
    inherit prefix;
    modules = [
      ../options.nix
      ../containers.nix
      ../units.nix
    ]
    ++ modules;
    specialArgs = {
      inherit pkgs;
      extendModules =
        more:
        import ./eval-config.nix {
          inherit
            lib
            system
            prefix
            specialArgs
            ;
          modules = modules ++ more.modules;
        };
    }
    // specialArgs;
  };
in
{
  inherit pkgs;
  inherit (evaluated) config options;
}
