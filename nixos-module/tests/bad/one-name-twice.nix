# Expected: services.nixmox.stacks.b.services.web: services.nixmox.stacks.a.services.web has the same name, and both would be the container web.
{
  services.nixmox.stacks.a.services.web.system = { };
  services.nixmox.stacks.b.services.web.system = { };
}
