# Prometheus. What it scrapes is added in `system`.
{
  description = "Prometheus";
  ports = [ 9090 ];
  data = [ "/var/lib/prometheus2" ];
  service = {
    health = {
      http = "http://localhost:9090/-/healthy";
      # It reads its log of writes before it answers.
      start_period = "5min";
    };
    limits.memory_max = "2G";
  };
  guest =
    { lib, ... }:
    {
      services.prometheus = {
        enable = true;
        stateDir = "prometheus2";
        retentionTime = lib.mkDefault "30d";
      };
    };
}
