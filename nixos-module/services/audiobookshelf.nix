# Audiobookshelf. Books are mounted beside its data.
{
  description = "Audiobookshelf, a server for audiobooks and podcasts";
  ports = [ 8000 ];
  data = [ "/var/lib/audiobookshelf" ];
  service = {
    health.http = "http://localhost:8000/healthcheck";
    limits.memory_max = "1G";
  };
  guest = {
    services.audiobookshelf = {
      enable = true;
      host = "0.0.0.0";
      port = 8000;
    };
  };
}
