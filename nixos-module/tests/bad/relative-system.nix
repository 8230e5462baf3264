# Expected: services.nixmox.stacks.cloud.services.web.system: `.#web` is relative. Write the module or the package itself, without quotes, or a flake by its whole name.
{ services.nixmox.stacks.cloud.services.web.system = ".#web"; }
