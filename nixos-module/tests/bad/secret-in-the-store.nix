# Expected: services.nixmox.stacks.cloud.services.web.credentials.key: the store is readable by everybody. Name a file outside of it.
{ pkgs, ... }:
{
  services.nixmox.stacks.cloud.services.web = {
    system = { };
    credentials.key = "${pkgs.writeText "key" "hunter2"}";
  };
}
