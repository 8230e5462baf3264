# Refused when built: `ports` has no meaning with `mode = "host"`
{
  services.nixmox.stacks.cloud.services.web = {
    system = { };
    network = {
      mode = "host";
      ports = [ 80 ];
    };
  };
}
