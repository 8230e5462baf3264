# Calibre-Web. Its first page asks where the library is: `/var/lib/calibre-library`, once Calibre has made one in it (`calibredb add
# --with-library`). It does not start with a library that is none, so none is named here.
{
  description = "Calibre-Web, a library of books; its first user is `admin` with the password `admin123`, to be changed at once";
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
    };
    systemd.tmpfiles.rules = [ "d /var/lib/calibre-library 0750 calibre-web calibre-web -" ];
    # The unit may write to no library but one that is named.
    systemd.services.calibre-web.serviceConfig.ReadWritePaths = [ "/var/lib/calibre-library" ];
  };
}
