# A host whose configuration declares a stack, and two systems to switch to: one with changes in it, one without the stack.
{ lib, pkgs, ... }:
let
  web = import ../static-system.nix pkgs "web" "http=80";
in
{
  services.nixmox.stacks.house.services = {
    calm.system = web;
    web.system = web;
  };

  specialisation.changed.configuration = {
    services.nixmox.stacks.house.services = {
      web.limits.tasks_max = 77;
      more = {
        system = web;
        depends_on.web = "healthy";
      };
    };
  };
  specialisation.without.configuration = {
    services.nixmox.stacks = lib.mkForce { };
  };
}
