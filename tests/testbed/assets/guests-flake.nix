# Systems of static guests, built by the static shell of the store.
{
  outputs = { self }:
    let
      system = "x86_64-linux";
      # builtins.storePath is not for pure evaluation, in which flakes are evaluated.
      stored = path: builtins.appendContext path { ${path} = { path = true; }; };
      busybox = stored "@busybox@";
      program = stored "@guest@";
      guest = name: behaviour: derivation {
        inherit system behaviour program;
        name = "nixos-system-${name}";
        builder = "${busybox}/bin/busybox";
        args = [ "sh" "-euc" ''
          b=${busybox}/bin/busybox
          $b mkdir -p $out
          $b printf %s "$behaviour" > $out/behaviour
          $b ln -s $program/bin/guest $out/init
        '' ];
      };
      packages = {
@packages@      };
    in
    {
      packages.${system} = packages;
    };
}
