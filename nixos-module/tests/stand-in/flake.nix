{
  description = "A stand-in for nixpkgs, see README.md";

  outputs =
    _:
    let
      lib = import ./lib;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
    in
    {
      lib = lib // {
        nixosSystem = arguments: import ./nixos/lib/eval-config.nix ({ inherit lib; } // arguments);
      };
      legacyPackages = lib.genAttrs systems (system: import ./. { inherit lib system; });
    };
}
