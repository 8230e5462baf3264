# Expected: A definition for option `services.nixmox.stacks.cloud.services.web.limits.cpu_weight' is not of type
{ services.nixmox.stacks.cloud.services.web.limits.cpu_weight = 0; }
