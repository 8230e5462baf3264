# `containers.<name>`: what the host's own configuration declares, as far as adopting it is concerned; and of the template of all other
# containers what our module changes.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
in
{
  options.containers = mkOption {
    default = { };
    description = "Containers of the host.";
    type = types.attrsOf (
      types.submodule {
        options = {
          autoStart = mkOption {
            type = types.bool;
            default = false;
          };
          config = mkOption { type = types.deferredModule; };
        };
      }
    );
  };

  config.systemd.services = lib.mkIf config.boot.enableContainers {
    "container@" = {
      restartIfChanged = false;
      serviceConfig = {
        DevicePolicy = "closed";
        DeviceAllow = [ ];
      };
    };
  };

  config.environment.etc = lib.mapAttrs' (
    name: container:
    lib.nameValuePair "nixos-containers/${name}.conf" {
      text =
        let
          system = import ./lib/eval-config.nix {
            inherit lib;
            modules = [
              {
                boot.isNspawnContainer = true;
                networking.hostName = lib.mkDefault name;
                nixpkgs.pkgs = lib.mkDefault pkgs;
              }
              container.config
            ];
          };
        in
        "SYSTEM_PATH=${system.config.system.build.toplevel}\n"
        + lib.optionalString container.autoStart "AUTO_START=1\n";
    }
  ) config.containers;
}
