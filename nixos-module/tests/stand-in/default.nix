# A package set: every attribute is a derivation with a store path that cannot be built.
{
  system ? "x86_64-linux",
  lib ? import ./lib,
  overlays ? [ ],
  ...
}:
let
  package =
    name: more:
    derivation {
      name = builtins.replaceStrings [ "@" ] [ "-" ] name;
      inherit system;
      builder = "/bin/sh";
      args = [
        "-c"
        "exit 1"
      ];
    }
    // {
      pname = name;
      meta.mainProgram = name;
      overrideAttrs = _: package name more;
      override = _: package name more;
    }
    // more;

  # What a file is made of is part of its name, as it is in nixpkgs.
  file =
    name: text:
    derivation {
      inherit name system text;
      builder = "/bin/sh";
      args = [
        "-c"
        "exit 1"
      ];
    };

  toml =
    let
      inherit (lib) types;
      value =
        types.oneOf [
          types.bool
          types.int
          types.float
          types.str
          types.path
          (types.attrsOf value)
          (types.listOf value)
        ]
        // {
          description = "TOML value";
        };
    in
    value;

  pkgs = {
    inherit lib;
    path = ./.;
    stdenv = {
      hostPlatform = { inherit system; };
      buildPlatform.canExecute = _: true;
    };

    writeText = file;
    writeTextFile =
      {
        name,
        text,
        destination ? "",
        checkPhase ? "",
      }:
      file name (text + destination + checkPhase);
    runCommand =
      name: environment: script:
      file name (builtins.toJSON environment + script);
    linkFarm = name: entries: file name (builtins.toJSON entries);
    writeShellScript = file;

    formats.toml = _: {
      type = toml;
    };

    callPackage =
      path: arguments:
      let
        function = import path;
      in
      function (builtins.intersectAttrs (builtins.functionArgs function) pkgs // arguments);
    rustPlatform.buildRustPackage =
      {
        pname,
        version,
        src,
        cargoLock,
        meta,
        ...
      }:
      # Files that are missing are an error here as they are in nixpkgs.
      builtins.seq (builtins.readFile cargoLock.lockFile) (
        builtins.seq (toString src) (package "${pname}-${version}" { inherit pname version meta; })
      );
    mkShell = _: package "shell" { };
  }
  // lib.genAttrs [
    "bash"
    "cargo"
    "clippy"
    "coreutils"
    "deadnix"
    "e2fsprogs"
    "installShellFiles"
    "nftables"
    "nix"
    "nixfmt"
    "nixfmt-tree"
    "rust-analyzer"
    "rustfmt"
    "systemd"
  ] (name: package name { });
in
lib.foldl' (set: overlay: set // overlay (pkgs // set) set) pkgs overlays
