# Definitions of one service in several modules become one, as everywhere in NixOS.
{ lib, ... }:
{
  imports = [
    {
      services.nixmox.stacks.cloud.services.web = {
        system.services.caddy.enable = true;
        limits.memory_max = lib.mkDefault "1G";
        network.ports = [ "80" ];
      };
    }
    {
      services.nixmox.stacks.cloud.services.web = {
        limits = {
          memory_max = "2G";
          tasks_max = 512;
        };
        network.ports = lib.mkAfter [ "443" ];
        mounts = lib.mkIf false [ "/nowhere:/nowhere" ];
      };
    }
  ];
}
