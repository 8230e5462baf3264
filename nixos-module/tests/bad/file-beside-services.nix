# Expected: services.nixmox.stacks.homelab.file: what is written in `services` and `limits` beside it would not be read.
{
  services.nixmox.stacks.homelab = {
    file = ../../../examples/homelab/nixmox.toml;
    services.web.system = { };
  };
}
