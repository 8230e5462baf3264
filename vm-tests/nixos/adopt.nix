# A host with a container of its own that a stack takes over, and a system in which that container is another one.
{ lib, ... }:
let
  round = text: {
    environment.etc.round.text = text;
    system.stateVersion = "26.05";
  };
in
{
  containers.web = {
    autoStart = true;
    config = round "first";
  };
  # Nobody's but NixOS's.
  containers.other = {
    autoStart = true;
    config = round "other";
  };
  services.nixmox.stacks.old.services.web.adopt = true;

  specialisation.changed.configuration = {
    containers.web.config = lib.mkForce (round "second");
  };
}
