# Grafana, with a first password and a key that are nowhere but in their files.
{
  description = "Grafana";
  ports = [ 3000 ];
  data = [ "/var/lib/grafana" ];
  secrets.grafana = [
    "grafana-admin-password"
    "grafana-secret-key"
  ];
  service = {
    health.http = "http://localhost:3000/api/health";
    limits.memory_max = "1G";
  };
  guest = {
    services.grafana = {
      enable = true;
      settings = {
        server = {
          http_addr = "0.0.0.0";
          http_port = 3000;
        };
        security = {
          admin_password = "$__file{/run/credentials/grafana.service/grafana-admin-password}";
          secret_key = "$__file{/run/credentials/grafana.service/grafana-secret-key}";
        };
        analytics.reporting_enabled = false;
      };
    };
  };
}
