# What evaluates a NixOS configuration: as the stand-in does, to a system of a static guest that does what `guest.behaviour` says, and
# listens where the services would of which a page in docs/ tells.
{ modules, ... }@arguments:
let
  stored =
    path:
    builtins.appendContext path {
      ${path} = {
        path = true;
      };
    };
  busybox = stored "@busybox@";
  guest =
    { config, lib, ... }:
    {
      options.guest.behaviour = lib.mkOption {
        type = lib.types.lines;
        default =
          lib.optionalString config.services.caddy.enable "http=80\n"
          + lib.optionalString config.services.postgresql.enable "http=5432\n";
      };
      config.system.build.toplevel = lib.mkForce (
        if !config.boot.isContainer then
          throw "not evaluated as a container"
        else
          derivation {
            inherit (arguments) system;
            inherit (config.guest) behaviour;
            inherit (config.networking) hostName;
            # Another configuration is another system.
            services = builtins.toJSON { inherit (config.services) caddy postgresql; };
            name = "nixos-system-${config.networking.hostName}-26.05";
            program = stored "@guest@";
            hosts = config.environment.etc.hosts.source or "";
            b = "${busybox}/bin/busybox";
            builder = "${busybox}/bin/busybox";
            args = [
              "sh"
              "-euc"
              ''
                $b mkdir -p $out
                $b printf %s "$behaviour" > $out/behaviour
                $b printf %s "$hostName" > $out/host-name
                $b printf %s "$hosts" > $out/hosts
                $b ln -s $program/bin/guest $out/init
              ''
            ];
          }
      );
    };
in
import ./evaluate.nix (arguments // { modules = modules ++ [ guest ]; })
