# `testers.runNixOSTest`: a test is a module. Its machines are evaluated whole, and what is to be built of it says what it is made of.
{ lib, pkgs }:
test:
let
  inherit (lib) mkOption types;
  options = {
    name = mkOption { type = types.str; };
    defaults = mkOption {
      type = types.deferredModule;
      default = { };
    };
    nodes = mkOption {
      type = types.attrsOf types.deferredModule;
      default = { };
    };
    testScript = mkOption { type = types.either types.str types.raw; };
    globalTimeout = mkOption {
      type = types.int;
      default = 60 * 60;
    };
  };
  inherit
    (lib.evalModules {
      modules = [
        { inherit options; }
        test
      ];
      specialArgs = { inherit pkgs; };
    })
    config
    ;
  nodes = lib.mapAttrs (
    name: machine:
    (import ./eval-config.nix {
      inherit lib;
      modules = [
        ../test-machine.nix
        config.defaults
        machine
        {
          networking.hostName = lib.mkDefault name;
          nixpkgs.pkgs = pkgs;
        }
      ];
    }).config
  ) config.nodes;
in
pkgs.runCommand "vm-test-run-${config.name}" {
  testScript =
    if lib.isString config.testScript then config.testScript else config.testScript { inherit nodes; };
  machines = lib.mapAttrsToList (_: machine: machine.system.build.vm) nodes;
  inherit (config) globalTimeout;
} "mkdir $out"
// {
  inherit config nodes;
}
