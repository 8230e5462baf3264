# Caddy in front of the others. Its sites are added in `system`.
{
  description = "Caddy, a web server that has certificates by itself";
  ports = [
    80
    443
  ];
  data = [ "/var/lib/caddy" ];
  service = {
    # Without a site it listens nowhere.
    health.unit = "caddy.service";
    limits.memory_max = "512M";
  };
  guest = {
    services.caddy.enable = true;
  };
}
