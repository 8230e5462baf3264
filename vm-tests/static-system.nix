# A system of the static guest, as `image/static-guest` makes them: its name, and what it does in the words of `tests/guest`.
pkgs:
let
  guest = pkgs.pkgsStatic.callPackage ./guest.nix { };
in
name: behaviour:
pkgs.runCommand "nixos-system-${name}" { } ''
  mkdir $out
  echo ${behaviour} > $out/behaviour
  ln -s ${guest}/bin/guest $out/init
''
