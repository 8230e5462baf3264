# Expected: services.nixmox.stacks.new.services.web: containers.web is there already. Set services.nixmox.stacks.new.services.web.adopt = true, or choose another name.
{
  containers.web.config = { };
  services.nixmox.stacks.new.services.web.system = { };
}
