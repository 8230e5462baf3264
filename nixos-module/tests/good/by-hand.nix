# A manifest that was written by hand, and a stack beside it that depends on what is in there.
{
  services.nixmox.stacks = {
    homelab.file = ../../../examples/homelab/nixmox.toml;
    mine.services.app = {
      system.services.openssh.enable = true;
      depends_on."homelab/postgres" = "healthy";
    };
  };
}
