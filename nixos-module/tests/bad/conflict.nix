# Expected: The option `services.nixmox.stacks.cloud.services.web.limits.memory_max' has conflicting definition values
{
  imports = [
    { services.nixmox.stacks.cloud.services.web.limits.memory_max = "1G"; }
    { services.nixmox.stacks.cloud.services.web.limits.memory_max = "2G"; }
  ];
}
