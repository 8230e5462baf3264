# Expected: A definition for option `services.nixmox.settings.drift' is not of type
{ services.nixmox.settings.drift = "ignore"; }
