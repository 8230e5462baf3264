# A guest in a file of its own, as `./service.nix` is.
{ services.postgresql.enable = true; }
