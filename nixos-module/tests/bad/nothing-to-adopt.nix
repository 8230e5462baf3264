# Expected: services.nixmox.stacks.old.services.web.adopt: there is no containers.web in this configuration.
{ services.nixmox.stacks.old.services.web.adopt = true; }
