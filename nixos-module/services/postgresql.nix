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
      # Whoever reaches it, which are other containers, and others where its port is published; and with a password alone.
      authentication = ''
        host all all 0.0.0.0/0 scram-sha-256
        host all all ::/0 scram-sha-256
      '';
      settings.password_encryption = "scram-sha-256";
    };
  };
}
