# ClamAV: its daemon, the updates of what it knows, and a timed scan of what is mounted below /scan.
{
  description = "ClamAV, which looks for malware";
  data = [ "/var/lib/clamav" ];
  service = {
    health = {
      unit = "clamav-daemon.service";
      # It starts once the first signatures were downloaded.
      start_period = "15min";
    };
    limits = {
      # The signatures alone are more than 1 GiB.
      memory_max = "4G";
      cpu_weight = 20;
      io_weight = 20;
    };
  };
  guest =
    { lib, ... }:
    {
      services.clamav = {
        daemon.enable = true;
        updater.enable = true;
        scanner = {
          enable = true;
          interval = lib.mkDefault "Sat *-*-* 04:00:00";
          scanDirectories = lib.mkDefault [ "/scan" ];
        };
      };
    };
}
