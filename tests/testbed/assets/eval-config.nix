# What evaluates a NixOS configuration, with the few options that containers of static guests have.
{ system, modules }:
let
  lib = import ../../lib;
  stored = path: builtins.appendContext path { ${path} = { path = true; }; };
  busybox = stored "@busybox@";
  option = type: default: lib.mkOption { inherit type default; };
  base =
    { config, ... }:
    {
      options = {
        boot.isContainer = option lib.types.bool false;
        networking.hostName = option lib.types.str "nixos";
        guest.behaviour = option lib.types.lines "";
        system.build.toplevel = lib.mkOption { type = lib.types.package; };
      };
      config.system.build.toplevel =
        if !config.boot.isContainer then
          throw "not evaluated as a container"
        else
          derivation {
            inherit system;
            inherit (config.guest) behaviour;
            name = "nixos-system-${config.networking.hostName}-26.05";
            program = stored "@guest@";
            hostName = config.networking.hostName;
            b = "${busybox}/bin/busybox";
            builder = "${busybox}/bin/busybox";
            args = [
              "sh"
              "-euc"
              ''
                $b mkdir -p $out
                $b printf %s "$behaviour" > $out/behaviour
                $b printf %s "$hostName" > $out/host-name
                $b ln -s $program/bin/guest $out/init
              ''
            ];
          };
    };
in
lib.evalModules { modules = [ base ] ++ modules; }
