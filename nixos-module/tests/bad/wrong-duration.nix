# Expected: A definition for option `services.nixmox.stacks.cloud.services.web.health.interval' is not of type
{ services.nixmox.stacks.cloud.services.web.health.interval = "5 m"; }
