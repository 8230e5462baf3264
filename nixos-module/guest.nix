# What a container brings that runs below NixMox: `nixosModules.guest`. Inline modules of `services.nixmox.stacks` get it by themselves.
{
  config,
  lib,
  options,
  ...
}:
let
  inherit (lib) mkOption types;

  # A guest with servers of its own, or a resolver, keeps to those.
  asksHost =
    config.networking.nameservers == [ ]
    && !config.services.resolved.enable
    && !config.networking.resolvconf.useLocalResolver
    && !config.networking.useDHCP;
in
{
  options.nixmox.credentials = mkOption {
    type = types.attrsOf (types.listOf types.nonEmptyStr);
    default = { };
    example = {
      nextcloud-setup = [ "admin-password" ];
    };
    description = ''
      Services of the guest, each with the names of the credentials that it may read: those of `credentials` in the manifest. A service finds
      one in `$CREDENTIALS_DIRECTORY/NAME` (`ImportCredential=`); none of them is in the store, nor in its environment.
    '';
  };

  config = {
    # The first implies the second, and has a switch inside leave alone what nspawn has mounted. Older releases have only the second.
    boot =
      if options.boot ? isNspawnContainer then { isNspawnContainer = true; } else { isContainer = true; };

    # Names of the other services: the agent keeps this file up to date, and binds its folder into every guest.
    environment.etc.hosts.source = lib.mkForce "/run/host/nixmox/hosts";

    # The template sets address and route before the guest's init.
    networking.useDHCP = lib.mkDefault false;

    # The agent keeps this file up to date as well. NixOS copies the host's own at each start, which is of no use to a guest where that names
    # a server on loopback, as systemd-resolved does. NixOS's module for containers has the opposite as its default, so this is stronger.
    networking.useHostResolvConf = lib.mkOverride 900 false;
    environment.etc."resolv.conf" = lib.mkIf asksHost {
      source = lib.mkDefault "/run/host/nixmox/resolv.conf";
    };
    # It would write that file, and NixOS refuses to have both.
    networking.resolvconf.enable = lib.mkIf asksHost (lib.mkDefault false);

    # A changed system is switched to inside, without a restart.
    system.switch.enable = lib.mkDefault true;

    # `environment` needs nothing here: the agent binds a drop-in of systemd's own settings, /run/systemd/system.conf.d/50-nixmox.conf.
    systemd.services = lib.mapAttrs (_: names: {
      serviceConfig.ImportCredential = names;
    }) config.nixmox.credentials;
  };
}
