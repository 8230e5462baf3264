# Calibre-Web over a library that it may change, with Calibre's own database in it.
{
  description = "Calibre-Web, a library of books";
  ports = [ 8083 ];
  data = [
    "/var/lib/calibre-web"
    "/var/lib/calibre-library"
  ];
  service = {
    health.http = "http://localhost:8083/login";
    limits.memory_max = "1G";
  };
  guest = {
    services.calibre-web = {
      enable = true;
      listen.ip = "0.0.0.0";
      options.calibreLibrary = "/var/lib/calibre-library";
    };
    systemd.tmpfiles.rules = [ "d /var/lib/calibre-library 0750 calibre-web calibre-web -" ];
  };
}
