# Refused when built: `ephemeral`
{
  containers.web.config = { };
  services.nixmox.stacks.cloud.services.web = {
    adopt = true;
    ephemeral = true;
  };
}
