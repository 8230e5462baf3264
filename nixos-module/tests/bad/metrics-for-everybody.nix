# Refused when built: is not loopback
{ services.nixmox.settings.metrics.listen = "0.0.0.0:19558"; }
