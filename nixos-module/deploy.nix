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
  builders = [
    config.nix.package
    # Nix runs it for flakes in repositories.
    pkgs.gitMinimal
  ];

  # A boot changes nothing: the agent brings up what it knows, and what a person stopped, or a rollback brought back, stays so. Whoever
  # starts the unit later means it.
  apply = pkgs.writeShellScript "nixmox-stacks" ''
    applied=/var/lib/nixmox-stacks/applied
    if [ "$(cat $applied 2>/dev/null)" = ${cfg.stacksFolder} ] && [ "$(systemctl is-system-running)" = starting ]; then
      echo "the stacks are those of the last boot; the agent brings them up"
      exit
    fi
    ${nixmoxctl} module up /etc/nixmox/stacks
    status=$?
    # Whatever came of it, it was tried; 4 is an agent that cannot be reached.
    [ $status = 4 ] || echo ${cfg.stacksFolder} > $applied
    exit $status
  '';
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
      # `system` may name an output of a flake that is elsewhere.
      wants = [
        "network-online.target"
        "nixmox-agent.socket"
      ];
      # After the agent too: a switch may restart both, and the old one would hang up.
      after = [
        "network-online.target"
        "nixmox-agent.socket"
        "nixmox-agent.service"
      ];

      # What is brought up is what is in the system that is switched to: the unit is one of the last steps of a switch.
      restartTriggers = [ cfg.stacksFolder ];
      stopIfChanged = false;

      # `system` may name an output of a flake. What is built for it is kept by links that the collector of garbage can see.
      path = builders;
      environment = {
        XDG_CACHE_HOME = "/var/cache/nixmox-stacks";
        XDG_RUNTIME_DIR = "/run/nixmox-stacks";
      };

      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        ExecStart = apply;
        RuntimeDirectory = "nixmox-stacks";
        RuntimeDirectoryMode = "0700";
        StateDirectory = "nixmox-stacks";
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
          PATH=${lib.makeBinPath builders}:$PATH \
          ${lib.getExe' pkgs.coreutils "timeout"} 30s ${nixmoxctl} module plan ${cfg.stacksFolder} || true
        fi
      '';
    };
  };
}
