# PostgreSQL for the other services: reached by name, with passwords alone.
{
  description = "PostgreSQL";
  ports = [ 5432 ];
  data = [ "/var/lib/postgresql" ];
  service = {
    health = {
      tcp = 5432;
      start_period = "5min";
    };
    limits = {
      memory_max = "2G";
      memory_low = "256M";
    };
  };
  guest = {
    services.postgresql = {
      enable = true;
      enableTCPIP = true;
      # The containers' own addresses; nobody else reaches it unless a port is published.
      authentication = ''
        host all all samenet scram-sha-256
        host all all 10.0.0.0/8 scram-sha-256
      '';
      settings.password_encryption = "scram-sha-256";
    };
  };
}
