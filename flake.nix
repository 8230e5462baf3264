# NixMox for flakes: the programs, the modules for hosts and guests, and what checks them. nixpkgs is the only input.
{
  description = "What Docker Compose is for Docker, for nixos-containers";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      forEachSystem =
        f:
        lib.genAttrs [
          "x86_64-linux"
          "aarch64-linux"
        ] (system: f nixpkgs.legacyPackages.${system});
      ofSystem = pkgs: self.packages.${pkgs.stdenv.hostPlatform.system};
    in
    {
      overlays.default = final: _: { nixmox = final.callPackage ./nixos-module/package.nix { }; };

      packages = forEachSystem (pkgs: rec {
        default = nixmox;
        nixmox = pkgs.callPackage ./nixos-module/package.nix { };
      });

      nixosModules = {
        default = {
          # Imported in two places, it is still one module.
          key = "nixmox";
          imports = [
            ./nixos-module
            ({ pkgs, ... }: { services.nixmox.package = lib.mkDefault (ofSystem pkgs).nixmox; })
          ];
        };
        guest = ./nixos-module/guest.nix;
      };

      checks = forEachSystem (
        pkgs:
        ofSystem pkgs
        // import ./nixos-module/checks.nix { inherit lib pkgs; }
        // import ./vm-tests/nixos.nix {
          inherit lib pkgs;
          module = self.nixosModules.default;
        }
      );

      devShells = forEachSystem (pkgs: {
        default = pkgs.mkShell {
          inputsFrom = [ (ofSystem pkgs).nixmox ];
          packages = [
            pkgs.clippy
            pkgs.deadnix
            pkgs.nixfmt
            pkgs.rust-analyzer
            pkgs.rustfmt
          ];
        };
      });

      formatter = forEachSystem (pkgs: pkgs.nixfmt-tree);

      # `nix run .#demo`: a virtual machine with a stack, and a shell in it.
      apps = forEachSystem (pkgs: {
        demo = {
          type = "app";
          meta.description = "A virtual machine whose configuration declares a stack";
          program =
            let
              machine = lib.nixosSystem {
                modules = [
                  self.nixosModules.default
                  ./nixos-module/demo.nix
                  { nixpkgs.hostPlatform = pkgs.stdenv.hostPlatform.system; }
                ];
              };
            in
            "${machine.config.system.build.vm}/bin/run-demo-vm";
        };
      });

      templates.homelab = {
        path = ./nixos-module/template;
        description = "A NixOS host with a stack of two services";
      };
    };
}
