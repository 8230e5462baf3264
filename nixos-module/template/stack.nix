# The stack: each service a NixOS system of its own, which sees the others by name.
{
  services.nixmox.stacks.cloud.services = {
    postgres = {
      system = ./postgres.nix;
      mounts = [
        {
          source = "/srv/postgres";
          target = "/var/lib/postgresql";
          create = true;
        }
      ];
      health.unit = "postgresql.service";
      limits.memory_max = "2G";
    };

    caddy = {
      system = ./caddy.nix;
      depends_on.postgres = "healthy";
      network.ports = [
        80
        443
      ];
      health.tcp = 80;
    };
  };
}
