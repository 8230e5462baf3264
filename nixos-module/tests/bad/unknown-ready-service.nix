# Expected: services.nixmox.services.gitea
{ services.nixmox.services.gitea.enable = true; }
