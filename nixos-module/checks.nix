# What `nix flake check` builds beside the packages: lints, format and documentation, and the system of every good case of the module.
{ lib, pkgs }:
let
  nixmox = pkgs.callPackage ./package.nix { };
  # The build of the programs, with another command in its place.
  instead =
    name: tools: command:
    nixmox.overrideAttrs (old: {
      pname = "nixmox-${name}";
      nativeBuildInputs = old.nativeBuildInputs ++ tools;
      buildPhase = command;
      doCheck = false;
      installPhase = "touch $out";
      postInstall = "";
    });

  nixFiles = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../flake.nix
      ../examples
      ../vm-tests
      ./.
    ];
  };

  evaluate =
    file:
    (lib.nixosSystem {
      modules = [
        ./tests/host.nix
        file
        { nixpkgs.hostPlatform = pkgs.stdenv.hostPlatform.system; }
      ];
    }).config.system.build.toplevel;
  cases = lib.filter (lib.hasSuffix ".nix") (lib.attrNames (builtins.readDir ./tests/good));
in
{
  clippy = instead "clippy" [
    pkgs.clippy
  ] "cargo clippy --workspace --all-targets -- --deny warnings";
  rustfmt = instead "rustfmt" [ pkgs.rustfmt ] "cargo fmt --all --check";
  docs = instead "docs" [ ] "RUSTDOCFLAGS='--deny warnings' cargo doc --workspace --no-deps";
  nix-files =
    pkgs.runCommand "nix-files"
      {
        nativeBuildInputs = [
          pkgs.deadnix
          pkgs.nixfmt
        ];
      }
      ''
        cd ${nixFiles}
        find . -name '*.nix' -exec nixfmt --check {} +
        deadnix --fail .
        touch $out
      '';
}
// lib.listToAttrs (
  map (file: {
    name = "module-${lib.removeSuffix ".nix" file}";
    value = evaluate (./tests/good + "/${file}");
  }) cases
)
