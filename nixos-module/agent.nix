# The agent: its programs, its settings, its socket and its unit. The units are those of systemd/ in NixOS's words; where the two
# differ on purpose, tests/units.diff says so.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.nixmox;
  toml = import ./manifest/toml.nix { inherit lib; };
  settings = pkgs.writeTextFile {
    name = "agent.toml";
    text = cfg.settingsText;
    # A mistake fails the build of the system, and not the start of the agent.
    checkPhase = lib.optionalString cfg.checks ''
      ${lib.getExe' cfg.package "nixmox-agent"} --check-settings "$target"
    '';
  };
in
{
  options.services.nixmox = {
    enable = lib.mkEnableOption "NixMox, which keeps nixos-containers as stacks declare them";

    package = lib.mkPackageOption pkgs "nixmox" { };

    settings = mkOption {
      default = { };
      example = {
        drift = "report";
        metrics.listen = "127.0.0.1:19558";
      };
      description = "Settings of the agent, `/etc/nixmox/agent.toml`. They are checked when the system is built.";
      type = types.submodule {
        freeformType = (pkgs.formats.toml { }).type;
        options = {
          drift = mkOption {
            type = types.enum [
              "correct"
              "report"
            ];
            default = "correct";
            description = ''
              What is done about changes that are made behind the agent's back: they are undone after a time in which they can be declared,
              or only shown.
            '';
          };
          parallel_starts = mkOption {
            type = types.ints.positive;
            default = 32;
            description = "Containers that are started at the same time.";
          };
          keep_generations = mkOption {
            type = types.ints.positive;
            default = 100;
            description = "Generations that are kept on disk.";
          };
          metrics = mkOption {
            default = null;
            example = {
              listen = "127.0.0.1:19558";
            };
            description = "Figures for Prometheus; `null`: nothing listens.";
            type = types.nullOr (
              types.submodule {
                options.listen = mkOption {
                  type = types.nonEmptyStr;
                  example = "/run/nixmox/metrics.sock";
                  description = "A loopback address with a port, or the absolute path of a Unix socket.";
                };
              }
            );
          };
        };
      };
    };

    settingsText = mkOption {
      type = types.str;
      internal = true;
      readOnly = true;
      default = toml (lib.filterAttrs (_: value: value != null) cfg.settings);
      description = "The settings as they are written.";
    };

    checks = mkOption {
      type = types.bool;
      internal = true;
      readOnly = true;
      # A system for another kind of machine is built without its programs being run.
      default = pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform;
      description = "Whether the programs can be run where the system is built.";
    };
  };

  config = lib.mkIf cfg.enable {
    # The template of every container, `container@.service`.
    boot.enableContainers = true;
    # nspawn gives a container with users and a network of its own this node, and does not start where the unit may not have it. NixOS allows
    # it to those of the host's configuration alone.
    systemd.services."container@".serviceConfig.DeviceAllow = [ "/dev/net/tun rwm" ];
    environment.systemPackages = [ cfg.package ];
    environment.etc."nixmox/agent.toml".source = settings;

    # What `nixmoxctl` evaluates a module with that a manifest names. As a text the folder is not copied once more; the context keeps it
    # for as long as this system is kept.
    environment.etc."nixmox/nixpkgs".source =
      let
        path = toString pkgs.path;
      in
      if builtins.match "${builtins.storeDir}/[^/]+" path == null then
        path
      else
        builtins.appendContext path { ${path}.path = true; };
    environment.etc."nixmox/guest.nix".source = ./guest.nix;

    systemd.sockets.nixmox-agent = {
      description = "NixMox agent socket";
      wantedBy = [ "sockets.target" ];
      listenStreams = [ "/run/nixmox/io.nixmox.Agent" ];
      socketConfig = {
        FileDescriptorName = "varlink";
        # Everybody may connect; who may do what is decided for each call, so that a refusal can say why.
        SocketMode = "0666";
        DirectoryMode = "0755";
        # Many activations in a row happen when the agent is killed again and again; the socket must not give up then.
        TriggerLimitIntervalSec = 0;
        RemoveOnStop = true;
      };
    };

    systemd.services.nixmox-agent = {
      description = "NixMox agent";
      wantedBy = [ "multi-user.target" ];
      requires = [ "nixmox-agent.socket" ];
      wants = [ "systemd-machined.service" ];
      after = [
        "nixmox-agent.socket"
        "dbus.socket"
        "dbus.service"
        "systemd-machined.service"
        "network.target"
        "nftables.service"
        "local-fs.target"
      ];
      # A limit here would put the socket into `failed` as well.
      unitConfig.StartLimitIntervalSec = 0;

      # A new agent takes the place of the old one at once. Neither touches a container: those are units of their own.
      restartTriggers = [ settings ];
      stopIfChanged = false;

      # nft(8) for published ports, chattr(1) for roots that are deleted.
      path = [
        pkgs.nftables
        pkgs.e2fsprogs
      ];
      # glibc gives each of the agent's short-lived threads an arena that stays (mallopt(3)).
      environment.MALLOC_ARENA_MAX = "1";

      serviceConfig = {
        Type = "notify";
        ExecStart = lib.getExe' cfg.package "nixmox-agent";
        Restart = "always";
        RestartSec = "100ms";
        # Longer than several calls in a row that run into their limit of 30 s.
        WatchdogSec = "2min";
        TimeoutStartSec = "30s";
        TimeoutStopSec = "15s";
        SyslogIdentifier = "nixmox-agent";
        # Events are read back from the journal: none of them may be dropped because there are many.
        LogRateLimitIntervalSec = 0;
        # Helper children enter guests; none of them may outlive the agent.
        KillMode = "control-group";
        LimitNOFILE = 16384;
        OOMScoreAdjust = -500;
        # A child that is ended for want of memory is one answer less, and no reason to stop the agent.
        OOMPolicy = "continue";
        # The generations, and what a new agent must find again after the old one died.
        StateDirectory = "nixmox";
        StateDirectoryMode = "0755";
        RuntimeDirectory = "nixmox";
        RuntimeDirectoryMode = "0755";
        RuntimeDirectoryPreserve = true;
        UMask = "0022";

        # What it may write to; docs/security.md explains each opening, and why what looks missing is missing.
        ProtectSystem = "strict";
        ReadWritePaths = [
          "-/etc/nixos-containers"
          "-/var/lib/nixos-containers"
          "-/nix/var/nix/gcroots"
          "-/nix/var/nix/profiles"
          "/run"
          "-/srv"
          "-/mnt"
          "-/media"
        ];
        ProtectHome = "read-only";
        NoNewPrivileges = true;
        LockPersonality = true;
        MemoryDenyWriteExecute = true;
        ProtectClock = true;
        ProtectHostname = true;
        ProtectKernelLogs = true;
        RestrictRealtime = true;
        RestrictSUIDSGID = false;
        SystemCallArchitectures = "native";
        RestrictAddressFamilies = [
          "AF_UNIX"
          "AF_INET"
          "AF_INET6"
          "AF_NETLINK"
        ];
        SystemCallFilter = [
          "@system-service"
          "@mount"
          "setns"
          "unshare"
        ];
        SystemCallErrorNumber = "EPERM";
      };
    };

    # Places that the agent's sandbox makes writable must exist before it starts.
    systemd.tmpfiles.rules = [
      "d /etc/nixos-containers                 0755 root root -"
      "d /var/lib/nixos-containers             0700 root root -"
      "d /run/nixmox                           0755 root root -"
      "d /nix/var/nix/gcroots/nixmox           0755 root root -"
      "d /nix/var/nix/gcroots/per-container    0755 root root -"
      "d /nix/var/nix/profiles/per-container   0755 root root -"
    ];
  };
}
