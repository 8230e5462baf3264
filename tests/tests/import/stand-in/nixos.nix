# The options of NixOS 26.05 that imported modules set, with NixOS's own types. An option that is not here does not
# exist, and a value of another type is refused: as on NixOS.
{ lib, pkgs }:
let
  inherit (lib) mkOption types;
  unset = type: mkOption {
    type = types.nullOr type;
    default = null;
  };
  list = type: mkOption {
    type = types.listOf type;
    default = [ ];
  };
  flag = mkOption {
    type = types.bool;
    default = false;
  };
  table = type: mkOption {
    type = types.attrsOf type;
    default = { };
  };
  function = lib.mkFunctionOption;
  atom = types.oneOf [
    types.bool
    types.int
    types.float
    types.str
  ];
  free = types.anything;
  forge = {
    enable = flag;
    database = {
      createDatabase = flag;
      type = unset (types.enum [
        "sqlite3"
        "mysql"
        "postgres"
      ]);
      host = unset types.str;
      port = unset types.port;
      name = unset types.str;
      user = unset types.str;
      passwordFile = unset types.path;
    };
    settings = table (types.attrsOf atom);
  };
in
{ config, ... }:
{
  options = {
    boot.isContainer = flag;
    boot.isNspawnContainer = flag;
    boot.kernel.sysctl = table atom;
    environment.etc = table (types.submodule { options.source = unset types.path; });
    hardware.graphics.enable = flag;
    networking.resolvconf.enable = mkOption {
      type = types.bool;
      default = true;
    };
    networking.useDHCP = mkOption {
      type = types.bool;
      default = true;
    };
    networking.firewall.enable = mkOption {
      type = types.bool;
      default = true;
    };
    networking.firewall.allowedTCPPorts = list types.port;
    networking.firewall.allowedUDPPorts = list types.port;
    nixpkgs.config.allowUnfree = flag;
    system.stateVersion = unset types.str;
    time.timeZone = unset types.str;
    users.users = table (types.submodule { options.extraGroups = list types.str; });
    systemd.services = table (
      types.submodule {
        options = {
          after = list types.str;
          requires = list types.str;
          wantedBy = list types.str;
          path = list types.package;
          script = unset types.lines;
          environment = table types.str;
          serviceConfig = table free;
        };
      }
    );

    services.audiobookshelf.enable = flag;
    services.audiobookshelf.host = unset types.str;
    services.audiobookshelf.port = unset types.port;

    services.caddy.enable = flag;
    services.caddy.configFile = unset types.path;
    services.caddy.adapter = unset types.str;
    services.caddy.environmentFile = unset types.path;
    services.caddy.virtualHosts = table (types.submodule { options.extraConfig = unset types.lines; });

    services.forgejo = forge // {
      secrets = table (types.attrsOf types.path);
    };
    services.gitea = forge;

    services.grafana.enable = flag;
    services.grafana.settings = table free;

    services.home-assistant.enable = flag;
    services.home-assistant.config = unset free;
    services.home-assistant.extraComponents = list types.str;

    services.jellyfin.enable = flag;

    services.memcached.enable = flag;
    services.memcached.listen = unset types.str;
    services.memcached.maxMemory = unset types.ints.unsigned;

    services.miniflux.enable = flag;
    services.miniflux.createDatabaseLocally = flag;
    services.miniflux.adminCredentialsFile = unset types.path;
    services.miniflux.config = table atom;

    services.mysql.enable = flag;
    services.mysql.package = mkOption { type = types.package; default = pkgs.mariadb; };
    services.mysql.settings = table (types.attrsOf atom);
    services.mysql.ensureDatabases = list types.str;

    services.navidrome.enable = flag;
    services.navidrome.settings = table free;

    services.nextcloud.enable = flag;
    services.nextcloud.hostName = unset types.str;
    services.nextcloud.maxUploadSize = unset types.str;
    services.nextcloud.secretFile = unset types.str;
    services.nextcloud.caching.redis = flag;
    services.nextcloud.configureRedis = mkOption {
      type = types.bool;
      default = true;
    };
    services.nextcloud.phpOptions = table atom;
    services.nextcloud.settings = table free;
    services.nextcloud.config.dbtype = unset (types.enum [
      "sqlite"
      "pgsql"
      "mysql"
    ]);
    services.nextcloud.config.dbhost = unset types.str;
    services.nextcloud.config.dbname = unset types.str;
    services.nextcloud.config.dbuser = unset types.str;
    services.nextcloud.config.dbpassFile = unset types.str;
    services.nextcloud.config.adminuser = unset types.str;
    services.nextcloud.config.adminpassFile = unset types.str;

    services.nginx.enable = flag;
    services.nginx.appendHttpConfig = unset types.lines;
    services.nginx.virtualHosts = table (
      types.submodule {
        options.default = flag;
        options.root = unset types.path;
        options.listen = list free;
      }
    );

    services.ollama.enable = flag;
    services.ollama.package = unset types.package;
    services.ollama.host = unset types.str;
    services.ollama.user = unset types.str;
    services.ollama.group = unset types.str;
    services.ollama.environmentVariables = table types.str;

    services.postgresql.enable = flag;
    services.postgresql.package = mkOption { type = types.package; default = pkgs.postgresql_17; };
    services.postgresql.extensions = function;
    services.postgresql.enableTCPIP = flag;
    services.postgresql.authentication = unset types.lines;
    services.postgresql.initdbArgs = list types.str;
    services.postgresql.settings = table atom;
    services.postgresql.ensureDatabases = list types.str;
    services.postgresql.ensureUsers = list (
      types.submodule {
        options.name = mkOption { type = types.str; };
        options.ensureDBOwnership = flag;
      }
    );

    services.prometheus.enable = flag;
    services.prometheus.package = mkOption { type = types.package; default = pkgs.prometheus; };
    services.prometheus.listenAddress = unset types.str;
    services.prometheus.retentionTime = unset types.str;
    services.prometheus.webExternalUrl = unset types.str;
    services.prometheus.extraFlags = list types.str;
    services.prometheus.exporters.node.enable = flag;

    services.radarr.enable = flag;
    services.radarr.dataDir = unset types.str;
    services.sonarr.enable = flag;
    services.sonarr.dataDir = unset types.str;

    services.redis.package = unset types.package;
    services.redis.servers = table (
      types.submodule {
        options = {
          enable = flag;
          bind = unset types.str;
          appendOnly = flag;
          databases = unset types.int;
          logLevel = unset types.str;
          requirePassFile = unset types.path;
          save = list (types.listOf types.int);
          settings = table atom;
        };
      }
    );

    services.traefik.enable = flag;
    services.traefik.environmentFiles = list types.path;
    services.traefik.staticConfigFile = unset types.path;
    services.traefik.staticConfigOptions = table free;
    services.traefik.dynamicConfigOptions = table free;

    services.vaultwarden.enable = flag;
    services.vaultwarden.dbBackend = unset (types.enum [
      "sqlite"
      "mysql"
      "postgresql"
    ]);
    services.vaultwarden.environmentFile = unset types.path;
    services.vaultwarden.config = table atom;
  };

  # A server of its own, whose settings stand where another one's would.
  config.services.nextcloud = lib.mkIf config.services.nextcloud.configureRedis {
    settings.redis = {
      host = "/run/redis-nextcloud/redis.sock";
      port = 0;
    };
  };
}
