# A package set: packages are empty folders, and what is written or run by a few lines of shell is built for real.
{
  system ? "x86_64-linux",
  lib ? import ./lib,
  overlays ? [ ],
  ...
}:
let
  # Built by whatever the machine has: good enough for scripts of a few lines.
  build =
    name: environment: script:
    derivation (
      {
        name = builtins.replaceStrings [ "@" ] [ "-" ] name;
        inherit system;
        builder = "/bin/bash";
        args = [
          "-euc"
          # The shell is the last to end: Nix kills a builder that has closed its output, which coreutils do before they end.
          "${script}\n:"
        ];
        PATH = "/usr/bin:/bin";
      }
      // environment
    );

  package =
    name: more:
    build name { } "mkdir -p $out/bin"
    // {
      pname = name;
      meta.mainProgram = name;
      overrideAttrs = _: package name more;
      # What it is built with shows in its name.
      override =
        arguments:
        package (lib.concatStringsSep "-with-" (
          [ name ] ++ lib.attrNames (lib.filterAttrs (_: on: on == true) arguments)
        )) more;
    }
    // more;

  writeTextFile =
    {
      name,
      text,
      destination ? "",
      checkPhase ? "",
    }:
    build name { inherit text destination checkPhase; } ''
      target=$out$destination
      mkdir -p "$(dirname "$target")"
      printf %s "$text" > "$target"
      eval "$checkPhase"
    '';
  writeText = name: text: writeTextFile { inherit name text; };

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

    inherit writeText writeTextFile;
    writeShellScript = writeText;
    writeScriptBin =
      name: text:
      writeTextFile {
        inherit name text;
        destination = "/bin/${name}";
      };
    runCommand = build;
    linkFarm =
      name: entries:
      build name { } (
        "mkdir $out\n"
        + lib.concatLines (lib.mapAttrsToList (entry: target: "ln -s ${target} $out/${entry}") entries)
      );

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
        cargoLock,
        cargoBuildFlags,
        postInstall,
        meta,
        ...
      }@arguments:
      # Files that are missing are an error here as they are in nixpkgs. A program is a script that does nothing; what is done with it once it
      # is installed is done for real.
      builtins.seq (builtins.readFile cargoLock.lockFile) (
        builtins.deepSeq arguments (
          build "${pname}-${version}"
            {
              inherit postInstall;
              programs = map (lib.removePrefix "--package=") cargoBuildFlags;
            }
            ''
              mkdir -p "$out/bin"
              for program in $programs; do
                printf '#!/bin/bash\n# Stands for a program.\n' > "$out/bin/$program"
                chmod +x "$out/bin/$program"
              done
              installManPage() { :; }
              installShellCompletion() { :; }
              eval "$postInstall"
            ''
          // {
            inherit pname version meta;
            overrideAttrs = f: pkgs.rustPlatform.buildRustPackage (arguments // f arguments);
          }
        )
      );
    # Static or not, the same is built.
    pkgsStatic = pkgs;
    testers.runNixOSTest = import ./nixos/lib/testing.nix { inherit lib pkgs; };
    mkShell = _: package "shell" { };
  }
  // lib.genAttrs [
    "bash"
    "cargo"
    "clippy"
    "coreutils"
    "curl"
    "deadnix"
    "e2fsprogs"
    "forgejo-lts"
    "gitMinimal"
    "installShellFiles"
    "jq"
    "llama-cpp"
    "nftables"
    "nix"
    "nixfmt"
    "nixfmt-tree"
    "ollama"
    "ollama-cuda"
    "rust-analyzer"
    "rustfmt"
    "skopeo"
    "systemd"
  ] (name: package name { });
in
lib.foldl' (set: overlay: set // overlay (pkgs // set) set) pkgs overlays
