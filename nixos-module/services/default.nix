# Ready services: `services.nixmox.services.<name>`, one uniform option for each file beside this one. A file is a recipe:
#
#   description      what it is, as the end of "Whether to run …"
#   ports            TCP ports that other services reach, open in the guest's firewall
#   data             folders in the guest that outlive it: one is `dataDir`, several are folders of their own names below it
#   secrets          a unit of the guest, and the credentials that it reads; made once by the service `credentials` where that is enabled
#   gpu              what it asks for where `gpu` is set
#   offload          what runs models in it, likewise
#   service          keys of the manifest
#   guest            the NixOS module of the guest
#   guestWithGpu     what is added to it where `gpu` is set
#
# What a recipe says is a default: `services.nixmox.stacks.<stack>.services.<name>` changes any of it.
{ config, lib, ... }:
let
  inherit (lib) mkDefault mkOption types;
  cfg = config.services.nixmox;

  files = removeAttrs (builtins.readDir ./.) [ "default.nix" ];
  nameOf = lib.removeSuffix ".nix";
  recipes = lib.mapAttrs' (
    file: _: lib.nameValuePair (nameOf file) (recipeOf (import (./. + "/${file}")))
  ) files;
  recipeOf =
    recipe:
    {
      ports = [ ];
      data = [ ];
      secrets = { };
      gpu = { };
      offload = { };
      service = { };
      guestWithGpu = { };
    }
    // recipe;

  optionsOf =
    name: recipe:
    {
      enable = lib.mkEnableOption recipe.description;
      stack = mkOption {
        type = types.strMatching "[a-z0-9][a-z0-9-]*";
        default = "home";
        description = "The stack that it is a service of.";
      };
      dataDir = mkOption {
        type = types.strMatching "/.*";
        default = "/srv/${name}";
        defaultText = lib.literalExpression ''"/srv/<name>"'';
        description = "Where its data lies on the host. It is made at the first start, and nothing of NixMox removes it.";
      };
      publish = mkOption {
        type = types.listOf (types.either types.ints.positive types.nonEmptyStr);
        default = [ ];
        example = [ "127.0.0.1:8080:80" ];
        description = "Ports that the host publishes, as `network.ports` of the manifest has them.";
      };
      system = mkOption {
        type = types.deferredModule;
        default = { };
        example = lib.literalExpression "{ services.grafana.settings.users.allow_sign_up = true; }";
        description = "What is added to its guest, a NixOS module.";
      };
    }
    // lib.optionalAttrs (recipe.gpu != { }) {
      gpu = mkOption {
        type = types.bool;
        default = false;
        description = "Whether it is given its share of the host's GPUs.";
      };
    };

  # Each leaf on its own, so that one of them can be changed.
  defaults = lib.mapAttrsRecursive (_: mkDefault);

  enabled = lib.filterAttrs (name: _: cfg.services.${name}.enable) recipes;
  credentialsOf = recipe: lib.unique (lib.concatLists (lib.attrValues recipe.secrets));
  secrets = lib.unique (lib.concatMap credentialsOf (lib.attrValues enabled));
  made = cfg.services.credentials;
  fileOf = secret: "${made.dataDir}/${secret}";

  serviceOf =
    name: recipe:
    let
      own = cfg.services.${name};
      # Its root is nobody on the host, nothing in it gains rights, and it cannot have the host build, which NixOS offers every guest.
      hardened = {
        private_users = "pick";
        nspawn_flags = [
          "--no-new-privileges=yes"
          "--inaccessible=/nix/var/nix/daemon-socket"
        ];
        limits.tasks_max = 4096;
      };
    in
    lib.mkMerge [
      (defaults (lib.recursiveUpdate hardened recipe.service))
      {
        network.ports = lib.mkIf (own.publish != [ ]) (mkDefault own.publish);
        mounts = map (folder: {
          source = if lib.length recipe.data == 1 then own.dataDir else "${own.dataDir}/${baseNameOf folder}";
          target = folder;
          create = true;
        }) recipe.data;
        credentials = lib.genAttrs (credentialsOf recipe) (secret: mkDefault (fileOf secret));
        depends_on = lib.mkIf (recipe.secrets != { } && made.enable) {
          ${if made.stack == own.stack then "credentials" else "${made.stack}/credentials"} = "completed";
        };
        system.imports = [
          recipe.guest
          own.system
          {
            networking.firewall.allowedTCPPorts = recipe.ports;
            nixmox.credentials = recipe.secrets;
            system.stateVersion = mkDefault config.system.stateVersion;
          }
        ]
        ++ lib.optional (own.gpu or false) recipe.guestWithGpu
        ++ lib.optional (name == "credentials") { nixmox.secrets = secrets; };
      }
      (lib.mkIf (own.gpu or false) (defaults {
        inherit (recipe) gpu;
      }))
      # What runs models needs a budget of video memory.
      (lib.mkIf ((own.gpu or false) && recipe.offload != { }) (defaults {
        inherit (recipe) offload;
      }))
    ];
in
{
  options.services.nixmox.services = lib.mapAttrs optionsOf recipes;

  config.services.nixmox.stacks = lib.mkMerge (
    lib.mapAttrsToList (name: recipe: {
      ${cfg.services.${name}.stack}.services.${name} = serviceOf name recipe;
    }) enabled
  );
}
