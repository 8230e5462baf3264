# Expected: The option `services.nixmox.stacks.cloud.services.web.memory_max' does not exist.
{ services.nixmox.stacks.cloud.services.web.memory_max = "2G"; }
