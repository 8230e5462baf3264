# The options of NixOS that our modules set or read, with the types that they have there.
{
  config,
  extendModules,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  option = type: default: mkOption { inherit type default; };
  nothing = type: option (types.nullOr type) null;
  strings = option (types.listOf types.str) [ ];
  # What stands in a section of a unit: systemd's own keys, unchecked as in NixOS. Lists are put together.
  section = option (types.attrsOf (types.either (types.listOf types.anything) types.anything)) { };
  # A file of settings in sections.
  sections = option (types.attrsOf (types.attrsOf types.anything)) { };
  set = options: option (types.attrsOf (types.submodule { inherit options; })) { };

  unit = {
    description = option types.str "";
    documentation = strings;
    wants = strings;
    requires = strings;
    after = strings;
    before = strings;
    wantedBy = strings;
    unitConfig = section;
  };
  failed = map (assertion: assertion.message) (
    lib.filter (assertion: !assertion.assertion) config.assertions
  );
in
{
  options = {
    assertions = option (types.listOf types.raw) [ ];
    warnings = strings;

    boot = {
      enableContainers = option types.bool (config.containers != { });
      isContainer = option types.bool config.boot.isNspawnContainer;
      isNspawnContainer = option types.bool false;
      kernel.sysctl = option (types.attrsOf types.anything) { };
    };

    environment.etc = option (types.attrsOf (
      types.submodule (
        { config, name, ... }:
        {
          options = {
            enable = option types.bool true;
            text = nothing types.lines;
            source = mkOption { type = types.path; };
          };
          config.source = lib.mkIf (config.text != null) (
            lib.mkDefault (pkgs.writeText (lib.replaceStrings [ "/" ] [ "-" ] name) config.text)
          );
        }
      )
    )) { };
    environment.systemPackages = option (types.listOf types.package) [ ];

    networking = {
      hostName = option types.str "nixos";
      useDHCP = option types.bool true;
      useHostResolvConf = option types.bool false;
      resolvconf = {
        enable = option types.bool true;
        useLocalResolver = option types.bool false;
      };
      nameservers = option (types.listOf types.str) [ ];
      nftables.enable = option types.bool false;
      firewall = {
        enable = option types.bool true;
        allowedTCPPorts = option (types.listOf types.port) [ ];
        filterForward = option types.bool false;
        extraForwardRules = option types.lines "";
      };
    };

    nix.enable = option types.bool true;
    nix.package = option types.package pkgs.nix;
    nixpkgs = {
      pkgs = nothing types.raw;
      overlays = option (types.listOf types.raw) [ ];
      hostPlatform = mkOption { type = types.str; };
    };

    # Stands for all the services that NixOS has, in guests.
    services.caddy = {
      enable = option types.bool false;
      virtualHosts = set { extraConfig = option types.lines ""; };
    };
    services.resolved.enable = option types.bool false;
    services.openssh.enable = option types.bool false;
    services.journald.rateLimitBurst = option types.int 10000;
    services.timesyncd.enable = option types.bool (!config.boot.isContainer);
    # Those of the ready services, as far as their recipes use them, with the types of NixOS.
    services.audiobookshelf = {
      enable = option types.bool false;
      host = option types.str "127.0.0.1";
      port = option types.port 8000;
    };
    services.calibre-web = {
      enable = option types.bool false;
      listen.ip = option types.str "::1";
    };
    services.clamav = {
      daemon.enable = option types.bool false;
      updater.enable = option types.bool false;
      scanner = {
        enable = option types.bool false;
        interval = option types.str "*-*-* 04:00:00";
        scanDirectories = option (types.listOf types.str) [ ];
      };
    };
    services.forgejo = {
      enable = option types.bool false;
      package = option types.package pkgs.forgejo-lts;
      database.type = option (types.enum [
        "sqlite3"
        "mysql"
        "postgres"
      ]) "sqlite3";
      settings = sections;
    };
    services.grafana = {
      enable = option types.bool false;
      settings = sections;
    };
    services.jellyfin.enable = option types.bool false;
    services.jupyter = {
      enable = option types.bool false;
      ip = option types.str "localhost";
      port = option types.port 8888;
      notebookDir = option types.str "~/";
      password = option types.str "";
    };
    services.llama-cpp = {
      enable = option types.bool false;
      package = option types.package pkgs.llama-cpp;
      host = option types.str "127.0.0.1";
      port = option types.port 8080;
      model = nothing types.path;
    };
    services.nextcloud = {
      enable = option types.bool false;
      hostName = option types.str "";
      config = {
        dbtype = nothing (
          types.enum [
            "sqlite"
            "pgsql"
            "mysql"
          ]
        );
        adminpassFile = nothing types.str;
      };
      settings.trusted_domains = option (types.listOf types.str) [ ];
    };
    services.ollama = {
      enable = option types.bool false;
      package = option types.package pkgs.ollama;
      host = option types.str "127.0.0.1";
      port = option types.port 11434;
      user = nothing types.str;
      home = option types.str "/var/lib/ollama";
    };
    services.postgresql = {
      enable = option types.bool false;
      enableTCPIP = option types.bool false;
      authentication = option types.lines "";
      settings = option (types.attrsOf (
        types.oneOf [
          types.bool
          types.float
          types.int
          types.str
        ]
      )) { };
    };
    services.prometheus = {
      enable = option types.bool false;
      stateDir = option types.str "prometheus2";
      retentionTime = nothing types.str;
    };
    services.getty = {
      autologinUser = nothing types.str;
      helpLine = option types.lines "";
    };

    # Each is the whole system with these changes, which it does not have itself.
    specialisation = set {
      configuration = option types.deferredModule { } // {
        apply =
          module:
          (extendModules {
            modules = [
              module
              { specialisation = lib.mkOverride 0 { }; }
            ];
          }).config;
      };
    };

    system = {
      stateVersion = mkOption { type = types.str; };
      activationScripts = set {
        text = option types.lines "";
        deps = strings;
        supportsDryActivation = option types.bool false;
      };
      switch.enable = option types.bool true;
      build = option (types.attrsOf types.raw) { };
    };

    systemd = {
      network = {
        enable = option types.bool false;
        wait-online.enable = option types.bool true;
        networks = set {
          matchConfig = section;
          linkConfig = section;
        };
      };
      oomd.enable = option types.bool true;
      package = option types.package pkgs.systemd;
      services = set (
        unit
        // {
          path = option (types.listOf types.package) [ ];
          environment = option (types.attrsOf types.str) { };
          serviceConfig = section;
          script = option types.lines "";
          restartTriggers = option (types.listOf types.raw) [ ];
          restartIfChanged = option types.bool true;
          stopIfChanged = option types.bool true;
        }
      );
      sockets = set (
        unit
        // {
          listenStreams = strings;
          socketConfig = section;
        }
      );
      tmpfiles.rules = strings;
    };

    users = {
      groups = set {
        gid = nothing types.int;
        members = strings;
      };
      users = set {
        isNormalUser = option types.bool false;
        isSystemUser = option types.bool false;
        group = option types.str "";
        description = option types.str "";
        extraGroups = strings;
        initialPassword = nothing types.str;
      };
    };

    virtualisation.vmVariant = option types.deferredModule { };
  };

  config = {
    # As NixOS's modules have it: for containers, for resolved, and against two who write one file.
    networking.useHostResolvConf = lib.mkIf config.boot.isContainer (lib.mkDefault true);
    networking.resolvconf.enable = lib.mkIf config.services.resolved.enable false;
    environment.etc."resolv.conf" = lib.mkIf config.services.resolved.enable {
      source = "/run/systemd/resolve/stub-resolv.conf";
    };
    assertions = [
      {
        assertion = config.networking.resolvconf.enable -> !config.environment.etc ? "resolv.conf";
        message = "networking.resolvconf.enable is true, and environment.etc.\"resolv.conf\" is set";
      }
      {
        assertion = config.services.resolved.enable -> !config.networking.useHostResolvConf;
        message = "services.resolved.enable and networking.useHostResolvConf are both true";
      }
    ];

    system.build.vm = pkgs.writeText "vm-${config.networking.hostName}" "";
    system.build.toplevel =
      if failed != [ ] then
        throw "Failed assertions:\n${lib.concatMapStrings (message: "- ${message}\n") failed}"
      else
        pkgs.writeText "nixos-system-${config.networking.hostName}" (
          builtins.toJSON {
            inherit (config) systemd users;
            inherit (config.boot) isContainer kernel;
            inherit (config.networking) firewall useHostResolvConf;
            inherit (config.system) activationScripts;
            etc = lib.mapAttrs (_: file: "${file.source}") (
              lib.filterAttrs (_: file: file.enable) config.environment.etc
            );
            inherit (config.environment) systemPackages;
            nix = config.nix.enable;
            switch = config.system.switch;
            specialisation = lib.mapAttrs (
              _: changed: "${changed.configuration.system.build.toplevel}"
            ) config.specialisation;
          }
        );
  };
}
