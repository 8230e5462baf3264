# A stack as somebody writes it: modules inline, one that takes arguments, order, health, limits, a published port, who may change it.
{
  services.nixmox = {
    operators = [ "anna" ];
    observers = [
      "ben"
      "grafana"
    ];
    settings.metrics.listen = "127.0.0.1:19558";

    stacks.cloud = {
      limits.memory_max = "8G";
      services = {
        postgres = {
          system.services.postgresql.enable = true;
          mounts = [ "/srv/postgres:/var/lib/postgresql" ];
          health.unit = "postgresql.service";
          limits.memory_max = "2G";
        };
        caddy = {
          system =
            { config, lib, ... }:
            {
              services.caddy.enable = true;
              services.caddy.virtualHosts.${config.networking.hostName}.extraConfig = "respond hello";
              networking.firewall.allowedTCPPorts = [ 80 ];
              nixmox.credentials.caddy = lib.singleton "acme-key";
            };
          credentials.acme-key = "/run/secrets/acme";
          depends_on.postgres = "healthy";
          network.ports = [
            80
            "127.0.0.1:2019:2019"
          ];
        };
      };
    };
  };
}
