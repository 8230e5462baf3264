# Expected: services.nixmox.stacks.mine.file: `/srv/mine/nixmox.toml` is a text.
{ services.nixmox.stacks.mine.file = "/srv/mine/nixmox.toml"; }
