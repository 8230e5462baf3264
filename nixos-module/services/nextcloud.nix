# Nextcloud with a database of its own in its data. Its host name is that of the container unless `system` says another.
{
  description = "Nextcloud";
  ports = [ 80 ];
  data = [ "/var/lib/nextcloud" ];
  secrets.nextcloud-setup = [ "nextcloud-admin-password" ];
  service = {
    health = {
      http = "http://localhost/status.php";
      # The first start installs it.
      start_period = "10min";
    };
    limits.memory_max = "2G";
  };
  guest =
    { lib, ... }:
    {
      services.nextcloud = {
        enable = true;
        hostName = lib.mkDefault "nextcloud";
        config = {
          dbtype = lib.mkDefault "sqlite";
          # The unit loads it as a credential, and a name that is no path is one of the container's own (`LoadCredential=`,
          # systemd.exec(5)).
          adminpassFile = "nextcloud-admin-password";
        };
        settings.trusted_domains = [ "localhost" ];
      };
    };
}
