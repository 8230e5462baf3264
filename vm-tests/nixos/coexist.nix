# A host whose stack lies beside what `nixos-container` makes.
{ pkgs, ... }:
let
  guest = pkgs.pkgsStatic.callPackage ../guest.nix { };
  web = pkgs.runCommand "nixos-system-web" { } ''
    mkdir $out
    echo http=80 > $out/behaviour
    ln -s ${guest}/bin/guest $out/init
  '';
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
