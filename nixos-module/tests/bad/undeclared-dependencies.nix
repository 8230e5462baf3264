# Expected: services.nixmox.stacks.cloud.services.web.depends_on: there is no services.nixmox.stacks.cloud.services.databse.
# Expected: services.nixmox.stacks.cloud.services.web.depends_on: there is no services.nixmox.stacks.infra.services.proxi.
{
  services.nixmox.stacks = {
    cloud.services.web = {
      system = { };
      depends_on = [
        "databse"
        "infra/proxi"
        "infra/proxy"
        # Brought up by hand, for all that is known here.
        "elsewhere/proxy"
      ];
    };
    infra.services.proxy.system = { };
  };
}
