# Evaluates modules as configurations of containers, in order: [ { drvPath, outputs.out } ].
nixpkgs: guest: services:
let
  evaluate = import (nixpkgs + "/nixos/lib/eval-config.nix");
  toplevel =
    { file, name }:
    (evaluate {
      system = builtins.currentSystem;
      modules = [
        file
        guest
        (
          { lib, ... }:
          {
            networking.hostName = lib.mkDefault name;
          }
        )
      ];
    }).config.system.build.toplevel;
in
map (
  service:
  let
    system = toplevel service;
    place = "in ${toString service.file}, the system of ${service.name}";
  in
  {
    drvPath = builtins.addErrorContext place system.drvPath;
    outputs.out = system.outPath;
  }
) services
