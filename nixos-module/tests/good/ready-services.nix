# Every ready service at once, one of them with more than its recipe says.
{
  services.nixmox.services = {
    audiobookshelf.enable = true;
    caddy = {
      enable = true;
      publish = [
        80
        443
      ];
    };
    calibre-web.enable = true;
    clamav.enable = true;
    credentials.enable = true;
    forgejo.enable = true;
    grafana = {
      enable = true;
      stack = "watch";
      publish = [ "127.0.0.1:3000:3000" ];
      system.services.grafana.settings.users.allow_sign_up = true;
    };
    image-pull = {
      enable = true;
      system.nixmox.images.whoami = "docker.io/traefik/whoami:v1.11";
    };
    jellyfin = {
      enable = true;
      dataDir = "/tank/jellyfin";
      gpu = true;
    };
    jupyter.enable = true;
    llama-cpp = {
      enable = true;
      gpu = true;
    };
    nextcloud.enable = true;
    ollama = {
      enable = true;
      gpu = true;
    };
    postgresql.enable = true;
    prometheus.enable = true;
  };

  services.nixmox.stacks.home.services = {
    nextcloud.limits.memory_max = "4G";
    jellyfin.mounts = [ "/tank/media:/media:ro" ];
  };
}
