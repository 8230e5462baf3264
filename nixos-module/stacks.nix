# Stacks as part of the host's configuration: `services.nixmox.stacks.<name>`. Each becomes a manifest, which is checked when the system is
# built, and all of them one folder:
#
#   stacks.<name>.services ──▶ text ─┐
#                                    ├─ nixmoxctl check ──▶ <name>/nixmox.toml ──▶ /etc/nixmox/stacks
#   stacks.<name>.file ──────────────┘
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.nixmox;
  manifest = import ./manifest/options.nix { inherit lib; };
  system = import ./manifest/system.nix { inherit lib pkgs; };
  toml = import ./manifest/toml.nix { inherit lib; };

  serviceOptions = manifest.service.options // {
    system = mkOption {
      type = types.nullOr system.type;
      default = null;
      example = lib.literalExpression ''
        { services.postgresql.enable = true; }
      '';
      description = ''
        What the container's root runs. A NixOS module, inline or as a file, is evaluated as a container with the host's own packages and with the
        guest module, and becomes part of the host's system. A package is the toplevel of a system that was made elsewhere. A text
        is a store path, or an output of a flake that is built when the stack is brought up, such as `"github:owner/repository#postgres"`.
      '';
    };
  };

  optionOf = name: "services.nixmox.stacks.${name}";

  # The guests that are written as modules, evaluated.
  guestsOf =
    stack: services:
    lib.mapAttrs (
      name: service:
      system.evaluate {
        inherit name;
        module = service.system;
        place = [
          "services"
          "nixmox"
          "stacks"
          stack
          "services"
          name
          "system"
        ];
      }
    ) (lib.filterAttrs (_: service: system.isModule service.system) services);

  # A service as the manifest has it.
  serviceOf =
    guests: name: service:
    manifest.service.written (removeAttrs service [ "system" ])
    // lib.optionalAttrs (service.system != null) {
      system = toString guests.${name}.system.build.toplevel or service.system;
    };

  textOf =
    name: stack:
    "# Made from ${optionOf name} of the host's configuration, which is the place to change it.\n"
    + toml {
      format = 1;
      stack = manifest.stack.written (lib.getAttrs (lib.attrNames manifest.stack.options) stack) // {
        inherit name;
        # Nobody but this configuration changes it or takes it down.
        owner = optionOf name;
      };
    }
    + toml {
      services = lib.mapAttrs (serviceOf stack.guests) stack.services;
    };

  check = lib.optionalString cfg.checks ''
    ${lib.getExe' cfg.package "nixmoxctl"} check --file "$target"
  '';
  made =
    name: stack:
    pkgs.writeTextFile {
      name = "nixmox-stack-${name}";
      inherit (stack) text;
      destination = "/nixmox.toml";
      checkPhase = check;
    };
  # The folder of the file comes along: what it includes and mounts lies beside it.
  copied =
    name: stack:
    pkgs.runCommand "nixmox-stack-${name}" { } ''
      bash ${./manifest/take-over.sh} "${dirOf stack.file}" "${baseNameOf stack.file}" "${optionOf name}" "$out"
      target=$out/nixmox.toml
      ${check}
    '';
in
{
  options.services.nixmox = {
    stacks = mkOption {
      default = { };
      description = ''
        Stacks that are part of the host's configuration. Their options are the keys of the manifest, in its own words: what is said there about each
        holds here. A stack that is taken out is brought down; data stays.
      '';
      example = lib.literalExpression ''
        {
          cloud.services.postgres = {
            system = { services.postgresql.enable = true; };
            mounts = [ "/srv/postgres:/var/lib/postgresql" ];
            health.unit = "postgresql.service";
          };
        }
      '';
      type = types.attrsOf (
        types.submodule (
          { config, name, ... }:
          {
            options = manifest.stack.options // {
              services = mkOption {
                type = types.attrsOf (types.submodule { options = serviceOptions; });
                default = { };
                description = "Services of the stack, each a container of that name.";
              };
              file = mkOption {
                type = types.nullOr types.path;
                default = null;
                example = lib.literalExpression "./stack/nixmox.toml";
                description = ''
                  A manifest that was written by hand, in place of `services`. Its folder is copied with it, so that it finds what it includes.
                '';
              };
              guests = mkOption {
                type = types.attrsOf types.raw;
                internal = true;
                readOnly = true;
                default = guestsOf name config.services;
                description = "The configurations of the services whose `system` is a module.";
              };
              text = mkOption {
                type = types.str;
                internal = true;
                readOnly = true;
                default = textOf name config;
                description = "The manifest as it is written.";
              };
            };
          }
        )
      );
    };

    stacksFolder = mkOption {
      type = types.package;
      internal = true;
      readOnly = true;
      default = pkgs.linkFarm "nixmox-stacks" (
        lib.mapAttrs (
          name: stack: if stack.file == null then made name stack else copied name stack
        ) cfg.stacks
      );
      description = "The folder with a folder for each stack.";
    };
  };

  config = lib.mkIf cfg.enable {
    # One link, so that plan and switch see the same whole, and an empty one is a folder too.
    environment.etc."nixmox/stacks".source = cfg.stacksFolder;
  };
}
