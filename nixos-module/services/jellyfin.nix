# Jellyfin. Media are mounted beside its data: `services.nixmox.stacks.<stack>.services.jellyfin.mounts`.
{
  description = "Jellyfin, a media server";
  ports = [ 8096 ];
  data = [ "/var/lib/jellyfin" ];
  # To encode video; what it takes of the memory is little.
  gpu = {
    vram = "2G";
  };
  service = {
    health = {
      http = "http://localhost:8096/health";
      start_period = "3min";
    };
    limits.memory_max = "4G";
    # What it makes anew when it is gone.
    tmpfs = [ "/var/cache/jellyfin:2G" ];
  };
  guest = {
    services.jellyfin.enable = true;
  };
}
