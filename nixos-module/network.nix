# What the host's network lets containers do. Published ports and translated addresses are the agent's own table, `inet nixmox`.
{ config, lib, ... }:
let
  cfg = config.services.nixmox;
in
{
  config = lib.mkIf cfg.enable {
    # Containers reach each other, and the network reaches published ports, through the host.
    boot.kernel.sysctl."net.ipv4.ip_forward" = lib.mkDefault 1;

    # NixOS has dhcpcd and NetworkManager leave the host's ends of containers' links alone, but not systemd-networkd: systemd's own file for
    # such links, 80-container-ve.network, gives them other addresses than the template does. Nothing is written where networkd does not run.
    systemd.network.networks."79-nixmox" = {
      matchConfig = {
        Kind = "veth";
        Name = "ve-*";
      };
      linkConfig.Unmanaged = "yes";
    };

    # A firewall that drops what is forwarded lets published ports through by itself, but nothing that a container begins.
    networking.firewall.extraForwardRules = lib.mkIf config.networking.firewall.filterForward ''
      iifname "ve-*" accept comment "containers with a private network"
    '';
  };
}
