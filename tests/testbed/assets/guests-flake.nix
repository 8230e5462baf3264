# Systems of static guests, built by the static shell of the store.
{
  outputs = { self }:
    let
      system = "x86_64-linux";
      # builtins.storePath is not for pure evaluation, in which flakes are evaluated.
      stored = path: builtins.appendContext path { ${path} = { path = true; }; };
      busybox = stored "@busybox@";
      program = stored "@guest@";
      # A derivation that a script of the shell makes; `$b` is the shell's program.
      shell = name: script: inputs: derivation (inputs // {
        inherit name system;
        b = "${busybox}/bin/busybox";
        builder = "${busybox}/bin/busybox";
        args = [ "sh" "-euc" script ];
      });
      guestWith = inputs: name: behaviour: shell "nixos-system-${name}" ''
        $b mkdir -p $out
        $b printf %s "$behaviour" > $out/behaviour
        $b ln -s $program/bin/guest $out/init
        [ -z "''${needs-}" ] || $b ln -s $needs $out/needs
      '' (inputs // { inherit behaviour program; });
      guest = guestWith { };
      packages = rec {
@packages@      };
      configurations = {
@configurations@      };
    in
    {
      packages.${system} = packages;
      nixosConfigurations =
        builtins.mapAttrs (_: system: { config.system.build.toplevel = system; }) configurations;
    };
}
