# Every key of the manifest, in each of its forms: what the options take, `nixmoxctl check` takes too.
let
  system = "/nix/store/00000000000000000000000000000000-nixos-system-guest";
in
{
  services.nixmox.stacks.keys = {
    address_pool = "10.99.0.0/16";
    limits = {
      memory_min = "64M";
      memory_low = 134217728;
      memory_high = "7G";
      memory_max = "8G";
      memory_swap_max = 0;
      memory_zswap_max = "256M";
      cpu_quota = "300%";
      cpu_weight = 200;
      allowed_cpus = "0-3";
      tasks_max = 4096;
      io_weight = 50;
      io_read_bandwidth_max."/dev/sda" = "50M";
      io_write_bandwidth_max."/srv" = 20000000;
    };
    services = {
      full = {
        inherit system;
        kind = "service";
        depends_on = {
          prepared = "completed";
          started = "started";
        };
        health = {
          http = "http://localhost:8080/health";
          pressure = {
            cpu = "80%";
            memory = "20%";
            io = "50%";
          };
          interval = "5s";
          timeout = "500ms";
          retries = 5;
          start_period = "1h30min";
          on_unhealthy = "restart";
        };
        limits = {
          memory_min = 1048576;
          allowed_cpus = [
            0
            2
          ];
        };
        network = {
          address = "10.99.7.2";
          ports = [
            80
            "8443:443/tcp"
            "443/udp"
            "127.0.0.1:2019:2019"
          ];
        };
        mounts = [
          "/srv/full:/var/lib/full:ro"
          {
            source = "/srv/a:b";
            target = "/var/lib/ab";
            read_only = true;
            create = true;
            must_be_mountpoint = true;
          }
        ];
        tmpfs = [
          "/var/cache:512M"
          {
            target = "/var/tmp";
            size = "1.5G";
          }
        ];
        credentials.admin-password = "/run/secrets/admin";
        environment.TZ = "Europe/Berlin";
        devices = [ "/dev/dri/renderD128:rwm" ];
        capabilities = [ "CAP_NET_ADMIN" ];
        ephemeral = true;
        private_users = "pick";
        nspawn_flags = [ "--rlimit=NOFILE=65536" ];
        restart = {
          policy = "on-failure";
          delay = "5s";
          delay_max = "1min";
          attempts_max = 10;
        };
        gpu = {
          devices = [ "GPU-5a6c0a2e-0000-0000-0000-000000000000" ];
          vendor = "nvidia";
          vram = "10G";
          vram_min = "4G";
          priority = 80;
        };
        offload = {
          engine = "ollama";
          url = "http://localhost:11435";
          keep = [ "llama3.1:8b" ];
          idle_unload = "30min";
          context = 8192;
          request_grace = "2min";
          cpu_fallback = "allow";
        };
      };
      prepared = {
        inherit system;
        kind = "job";
        restart = "no";
        # Only named: all GPUs.
        gpu = { };
      };
      started = {
        inherit system;
        depends_on = [ "bridged" ];
        health.exec = [
          "pg_isready"
          "-q"
        ];
        network.mode = "host";
      };
      bridged = {
        inherit system;
        health.unit = "nginx.service";
        network = {
          mode = "bridge";
          bridge = "br0";
        };
      };
      tcp = {
        inherit system;
        health.tcp = 5432;
        gpu.devices = 2;
      };
    };
  };
}
