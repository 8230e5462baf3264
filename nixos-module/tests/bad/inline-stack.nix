# Refused when built: services.nixmox.stacks.inline.file: inline.toml has no line [stack], below which to write the stack's owner
{ services.nixmox.stacks.inline.file = ../inline.toml; }
