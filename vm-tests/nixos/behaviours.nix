# A host with a guest of NixOS, and a system in which that guest is another one: for what nixpkgs' own tests of containers assert.
{ lib, ... }:
let
  round = name: {
    environment.etc.${name}.text = name;
    system.stateVersion = "26.05";
  };
in
{
  services.nixmox.stacks.house.services.guest.system = round "first";

  specialisation.changed.configuration = {
    services.nixmox.stacks.house.services.guest.system = lib.mkForce (round "second");
  };
}
