# Evaluates a host with one module: what comes of it, as texts by the place where they end up.
#
# `nixpkgs` is a nixpkgs, or the stand-in; `lib` another `lib` than the one in it. `programs` is a folder with the real nixmoxctl and
# nixmox-agent, which check what is built.
{
  nixpkgs ? ./stand-in,
  lib ? import (nixpkgs + "/lib"),
  case,
  programs ? null,
}:
let
  host = import (nixpkgs + "/nixos/lib/eval-config.nix") {
    inherit lib;
    system = null;
    modules = [
      ./host.nix
      case
    ]
    ++ lib.optional (programs != null) (
      { lib, pkgs, ... }:
      {
        nixpkgs.hostPlatform = builtins.currentSystem;
        services.nixmox.package = lib.mkForce (
          pkgs.runCommand "nixmox" { } "mkdir $out; cp -r ${programs} $out/bin"
        );
      }
    );
  };
  inherit (host) config pkgs;
  inherit (config.services.nixmox) settingsText stacks;
  ours = lib.filterAttrs (name: _: lib.hasPrefix "nixmox" name);
  manifests = lib.mapAttrs (_: stack: stack.text) (
    lib.filterAttrs (_: stack: stack.file == null) stacks
  );
  guests = lib.concatMapAttrs (_: stack: stack.guests) stacks;

  # What the guest module is for, as it came out.
  aboutGuest = guest: ''
    container: ${lib.boolToString guest.boot.isContainer}
    name: ${guest.networking.hostName}
    /etc/hosts: ${toString guest.environment.etc.hosts.source}
    /etc/resolv.conf: ${guest.environment.etc."resolv.conf".source or "its own"}
    DHCP: ${lib.boolToString guest.networking.useDHCP}
    can be switched: ${lib.boolToString guest.system.switch.enable}
    services: ${
      # All of them are looked at: one that is misspelt, or of another type, is seen here.
      builtins.deepSeq guest.services (
        toString (
          lib.mapAttrsToList (
            name: service:
            name + lib.optionalString (service ? package) " (${service.package.pname or service.package.name})"
          ) (lib.filterAttrs (_: service: service.enable or false) guest.services)
        )
      )
    }
    programs: ${
      toString (map (package: package.pname or package.name) guest.environment.systemPackages)
    }
    units: ${
      lib.concatStringsSep ", " (
        lib.mapAttrsToList (name: settings: "${name} ${builtins.toJSON settings}") (
          lib.filterAttrs (_: settings: settings != { }) (
            lib.mapAttrs (
              _: service: removeAttrs service.serviceConfig [ "ImportCredential" ]
            ) guest.systemd.services
          )
        )
      )
    }
    open ports: ${toString guest.networking.firewall.allowedTCPPorts}
    credentials: ${
      lib.concatStringsSep ", " (
        lib.mapAttrsToList (name: service: "${name}: ${toString service.serviceConfig.ImportCredential}") (
          lib.filterAttrs (_: service: service.serviceConfig ? ImportCredential) guest.systemd.services
        )
      )
    }
  '';
  at = folder: lib.mapAttrs' (name: text: lib.nameValuePair "${folder}/${name}" text);
in
{
  # Forces every assertion, and every type of what NixOS makes of the options.
  system = config.system.build.toplevel.drvPath;

  # What of it is checked by our programs when it is built.
  built = pkgs.linkFarm "built" (
    {
      stacks = config.services.nixmox.stacksFolder;
      settings = config.environment.etc."nixmox/agent.toml".source;
    }
    // lib.mapAttrs' (
      name: changed: lib.nameValuePair "stacks-${name}" changed.configuration.services.nixmox.stacksFolder
    ) config.specialisation
  );

  texts = {
    "agent.toml" = settingsText;
    "activation script" = config.system.activationScripts.nixmox-plan.text;
    "forward rules of the firewall" = config.networking.firewall.extraForwardRules;
    "device rules of every container" =
      lib.concatLines
        config.systemd.services."container@".serviceConfig.DeviceAllow;
    "containers that start by themselves" = lib.concatLines (
      lib.attrNames (lib.filterAttrs (_: container: container.autoStart) config.containers)
    );
    "sysctl.conf" = "net.ipv4.ip_forward = ${
      toString config.boot.kernel.sysctl."net.ipv4.ip_forward"
    }\n";
    "sysusers.conf" = lib.concatLines (
      lib.mapAttrsToList (
        name: group: lib.removeSuffix " " "g ${name} - ${lib.concatStringsSep "," group.members}"
      ) (ours config.users.groups)
      ++ lib.mapAttrsToList (name: user: "u ${name} -:${user.group} \"${user.description}\"") (
        ours config.users.users
      )
    );
    "79-nixmox.network" =
      let
        network = config.systemd.network.networks."79-nixmox";
        section =
          name: settings:
          "[${name}]\n" + lib.concatLines (lib.mapAttrsToList (key: value: "${key}=${value}") settings);
      in
      section "Match" network.matchConfig + section "Link" network.linkConfig;
    "tmpfiles.conf" = lib.concatLines config.systemd.tmpfiles.rules;
  }
  // at "units" (lib.mapAttrs (_: unit: unit.text) (ours config.systemd.units))
  // at "stacks" manifests
  // at "guests" (lib.mapAttrs (_: aboutGuest) guests);
}
