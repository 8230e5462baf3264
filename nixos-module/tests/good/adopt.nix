# A container of the host's configuration is taken over: the agent starts it, and a change of its system reaches the stack's unit.
{
  containers.web = {
    autoStart = true;
    config.services.caddy.enable = true;
  };
  # Nobody's but NixOS's.
  containers.other = {
    autoStart = true;
    config = { };
  };

  services.nixmox.stacks.old.services = {
    web = {
      adopt = true;
      depends_on.db = "healthy";
      limits.memory_max = "1G";
    };
    db.system.services.postgresql.enable = true;
  };
}
