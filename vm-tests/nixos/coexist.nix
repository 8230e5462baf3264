# A host whose stack lies beside what `nixos-container` makes.
{ pkgs, ... }:
let
  web = import ../static-system.nix pkgs "web" "http=80";
in
{
  services.nixmox.stacks.house.services = {
    ours.system = {
      environment.etc.round.text = "ours";
      system.stateVersion = "26.05";
    };
    web.system = web;
  };
  # What `nixos-container create` is given as `--system-path`.
  environment.etc.system-of-theirs.text = "${web}";
}
