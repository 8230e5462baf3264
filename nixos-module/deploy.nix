# `nixos-rebuild switch` goes through the agent's plan: it is shown before anything is done, and carried out by a unit.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.nixmox;
  nixmoxctl = lib.getExe' cfg.package "nixmoxctl";
in
{
  config = lib.mkIf cfg.enable {
    # An operator like any other, whose name `status` and the log tell: what changes the host is the agent.
    users.users.nixmox-stacks = {
      isSystemUser = true;
      group = "nixmox-operator";
      description = "Brings up the stacks of the host's configuration";
    };

    systemd.services.nixmox-stacks = {
      description = "Stacks of the host's configuration";
      wantedBy = [ "multi-user.target" ];
      wants = [ "nixmox-agent.socket" ];
      # After the agent too: a switch may restart both, and the old one would hang up.
      after = [
        "nixmox-agent.socket"
        "nixmox-agent.service"
      ];

      # What is brought up is what is in the system that is switched to: the unit is one of the last steps of a switch.
      restartTriggers = [ cfg.stacksFolder ];
      stopIfChanged = false;

      # `system` may name an output of a flake.
      path = [ config.nix.package ];
      environment.XDG_CACHE_HOME = "/var/cache/nixmox-stacks";

      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        ExecStart = "${nixmoxctl} module up /etc/nixmox/stacks";
        # The agent's answer ends it: a first boot may migrate a database.
        TimeoutStartSec = "infinity";
        SyslogIdentifier = "nixmox-stacks";

        User = "nixmox-stacks";
        Group = "nixmox-operator";
        CacheDirectory = "nixmox-stacks";
        CapabilityBoundingSet = "";
        LockPersonality = true;
        MemoryDenyWriteExecute = true;
        NoNewPrivileges = true;
        PrivateDevices = true;
        PrivateTmp = true;
        ProtectClock = true;
        ProtectControlGroups = true;
        ProtectHome = true;
        ProtectHostname = true;
        ProtectKernelLogs = true;
        ProtectKernelModules = true;
        ProtectKernelTunables = true;
        ProtectProc = "invisible";
        ProtectSystem = "strict";
        RemoveIPC = true;
        RestrictAddressFamilies = [
          "AF_UNIX"
          "AF_INET"
          "AF_INET6"
        ];
        RestrictNamespaces = true;
        RestrictRealtime = true;
        RestrictSUIDSGID = true;
        SystemCallArchitectures = "native";
        SystemCallFilter = [
          "@system-service"
          "~@privileged"
        ];
        UMask = "0077";
      };
    };

    # Shows the plan, also of a dry run. It fails no switch and holds none up: what it shows is decided by the unit above.
    system.activationScripts.nixmox-plan = {
      supportsDryActivation = true;
      text = ''
        if [ -S /run/nixmox/io.nixmox.Agent ]; then
          ${lib.getExe' pkgs.coreutils "timeout"} 30s ${nixmoxctl} module plan ${cfg.stacksFolder} || true
        fi
      '';
    };
  };
}
