# Takes the place of nixpkgs, which no build machine reaches: modules are evaluated for real against the options that
# nixos.nix declares, and a "system" is a static guest that carries the evaluated configuration along.
{
  outputs =
    _:
    let
      lib = import ./lib.nix;
      pkgs = import ./pkgs.nix { inherit lib; };
      paths = builtins.fromJSON (builtins.readFile ./paths.json);
      # builtins.storePath is not for pure evaluation, in which flakes are evaluated.
      stored = path: builtins.appendContext path { ${path}.path = true; };
      busybox = stored paths.busybox;
      nixosSystem =
        { system, modules }:
        let
          name = baseNameOf (dirOf (lib.lastOf modules));
          evaluated = lib.evalModules {
            modules = [ (import ./nixos.nix { inherit lib pkgs; }) ] ++ modules;
            args = { inherit pkgs; };
          };
          guest = stored (paths.guests.${name} or paths.guest);
          inherit (evaluated) config;
          inherit (config.services) grafana;
          # What NixOS refuses: two who write one file, a key that is left to its default.
          refused =
            config.networking.resolvconf.enable && config.environment.etc ? "resolv.conf"
            || grafana.enable && !grafana.settings ? security.secret_key;
        in
        {
          config.system.build.toplevel = if refused then throw "NixOS refuses ${name}" else if config.networking.useDHCP then throw "${name} waits for a DHCP server" else derivation {
            inherit system;
            name = "nixos-system-${name}";
            # Forces every option that is set.
            configuration = builtins.unsafeDiscardStringContext (builtins.toJSON config);
            builder = "${busybox}/bin/busybox";
            args = [
              "sh"
              "-euc"
              ''
                b=${busybox}/bin/busybox
                $b mkdir -p $out
                $b cp ${guest}/behaviour $out/behaviour
                $b cp -P ${guest}/init $out/init
                $b printf %s "$configuration" > $out/configuration.json
              ''
            ];
          };
        };
    in
    {
      lib = lib // {
        inherit nixosSystem;
      };
    };
}
