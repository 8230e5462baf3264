# How the two programs are built: `nixmoxctl` and `nixmox-agent`, with manual pages and completions.
{
  lib,
  rustPlatform,
  installShellFiles,
  stdenv,
}:
let
  inherit (lib.importTOML ../Cargo.toml) workspace;
in
rustPlatform.buildRustPackage {
  pname = "nixmox";
  inherit (workspace.package) version;

  # The members of the workspace, what they include in their programs and tests, and the settings of the tools that check them; a change
  # of this folder builds nothing anew.
  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../CHANGELOG.md
      ../Cargo.lock
      ../Cargo.toml
      ../agent
      ../api
      ../clippy.toml
      ../core
      ../ctl
      ../docs
      ../examples
      ../nixos-module/guest.nix
      ../rustfmt.toml
      ../systemd
      ../tests
      ../tree
      ../vm-tests
      ../xtask
    ];
  };
  cargoLock.lockFile = ../Cargo.lock;

  cargoBuildFlags = [
    "--package=nixmox-agent"
    "--package=nixmoxctl"
  ];
  # Those that need neither root nor a systemd of their own. The others are run by `cargo xtask test`.
  cargoTestFlags = [
    "--package=nixmox-core"
    "--package=nixmox-api"
  ];

  nativeBuildInputs = [ installShellFiles ];
  postInstall = ''
    installManPage docs/man/*.1 docs/man/*.8
  ''
  + lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    for shell in bash zsh fish; do
      "$out/bin/nixmoxctl" completions "$shell" > "nixmoxctl.$shell"
      installShellCompletion --cmd nixmoxctl --"$shell" "nixmoxctl.$shell"
    done
  '';

  meta = {
    description = "What Docker Compose is for Docker, for nixos-containers";
    license = [
      lib.licenses.mit
      lib.licenses.asl20
    ];
    mainProgram = "nixmoxctl";
    platforms = lib.platforms.linux;
  };
}
