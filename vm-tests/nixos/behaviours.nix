# A host with systemd-networkd and a guest of NixOS, and a system in which that guest is another one: for what nixpkgs' own tests of
# containers assert.
{ lib, ... }:
let
  round = name: {
    environment.etc.${name}.text = name;
    system.stateVersion = "26.05";
  };
in
{
  services.nixmox.stacks.house.services.guest.system = round "first";

  # It runs, and manages nothing of its own: what it does to links of containers is to be seen. Nobody is to wait for it.
  systemd.network.enable = true;
  systemd.network.wait-online.enable = false;

  specialisation.changed.configuration = {
    services.nixmox.stacks.house.services.guest.system = lib.mkForce (round "second");
  };
}
