# docs/module.md: every option, as the modules declare them. The keys of the manifest have their texts in docs/manifest.md.
{
  nixpkgs ? ./stand-in,
  lib ? import (nixpkgs + "/lib"),
}:
let
  host = import (nixpkgs + "/nixos/lib/eval-config.nix") {
    inherit lib;
    system = null;
    modules = [ ./host.nix ];
  };
  guest = import (nixpkgs + "/nixos/lib/eval-config.nix") {
    inherit lib;
    system = null;
    modules = [
      ../guest.nix
      { nixpkgs.hostPlatform = "x86_64-linux"; }
    ];
  };
  manifest = import ../manifest/options.nix { inherit lib; };
  keys = lib.attrNames manifest.service.options ++ lib.attrNames manifest.stack.options;

  # A value as it is written in Nix.
  show =
    value:
    if lib.isAttrs value && value._type or null == "literalExpression" then
      lib.removeSuffix "\n" value.text
    else if lib.isAttrs value then
      if value == { } then
        "{ }"
      else
        "{ ${
          lib.concatStringsSep " " (
            lib.mapAttrsToList (name: inside: "${attribute name} = ${show inside};") value
          )
        } }"
    else if lib.isList value then
      "[ ${lib.concatMapStrings (inside: show inside + " ") value}]"
    else
      builtins.toJSON value;
  attribute =
    name: if builtins.match "[A-Za-z_][A-Za-z0-9_-]*" name != null then name else builtins.toJSON name;

  # Every option below a place, those inside of submodules too: { path, option }.
  all =
    path: tree:
    lib.concatLists (
      lib.mapAttrsToList (
        name: value:
        let
          here = path ++ [ name ];
        in
        if name == "_module" then
          [ ]
        else if !lib.isOption value then
          all here value
        else if value.internal or false then
          [ ]
        else
          [
            {
              path = here;
              option = value;
            }
          ]
          ++ all here (value.type.getSubOptions [ ])
      ) tree
    );
  # What stands between an option and those inside it.
  between = {
    stacks = [ "<name>" ];
    services = [ "<name>" ];
  };
  spell =
    path: lib.concatStringsSep "." (lib.concatMap (name: [ name ] ++ between.${name} or [ ]) path);
  named = path: lib.removeSuffix ".<name>" (spell path);

  default =
    option:
    if option ? defaultText then
      show option.defaultText
    else if option ? default then
      show option.default
    else
      null;
  fence =
    text:
    if builtins.match ".*\n.*" text == null then "`${text}`" else "\n  ```nix\n${indent text}\n  ```";
  indent = text: lib.concatMapStringsSep "\n" (line: "  " + line) (lib.splitString "\n" text);
  line = what: value: lib.optionalString (value != null) "- ${what}: ${value}\n";
  described = prefix: { path, option }: ''
    ### `${prefix}${named path}`

    ${lib.removeSuffix "\n" option.description}

    ${
      line "Type" option.type.description
      + line "Default" (if default option == null then null else fence (default option))
      + line "Example" (if option ? example then fence (show option.example) else null)
    }'';

  # A key of the manifest: its heading in docs/manifest.md is named as the key is, and those of `limits` stand there once.
  row =
    place:
    { path, option }:
    let
      heading = (if lib.length path == 1 then place else "") + lib.concatStrings path;
    in
    "| [`${lib.concatStringsSep "." path}`](manifest.md#${heading}) | ${
      if default option == null then "needed" else "`${default option}`"
    } |\n";
  table = place: options: ''
    | option | default |
    |---|---|
    ${lib.concatMapStrings (row place) options}'';

  ours = all [ ] host.options.services.nixmox;
  ofHost = lib.filter (
    entry:
    !lib.elem (lib.head entry.path) [
      "services"
      "stacks"
    ]
  ) ours;

  # All ready services have the same options; one that has a GPU to ask for has them all.
  ready = host.options.services.nixmox.services;
  ofReady = lib.mapAttrsToList (name: option: {
    path = [
      "services"
      name
    ];
    option = option // lib.optionalAttrs (name == "enable") { description = "Whether to run it."; };
  }) ready.ollama;
  rowOfReady =
    name: options:
    "| `${name}` | ${lib.removeSuffix "." (lib.removePrefix "Whether to enable " options.enable.description)} | ${
      if options ? gpu then "on demand" else ""
    } |\n";
  inStack = lib.filter (
    { path, ... }:
    lib.head path == "stacks"
    && (lib.length path < 2 || !lib.elem (lib.elemAt path 1) keys)
    && (lib.length path < 3 || !lib.elem (lib.elemAt path 2) (lib.filter (key: key != "system") keys))
  ) ours;
in
''
  # The NixOS module

  <!-- Made from the options in nixos-module/, which hold the texts. After a change there: UPDATE_REFERENCE=1 cargo xtask nix -->

  `services.nixmox` installs the agent on a NixOS host, and makes stacks part of the host's configuration:

  ```nix
  {
    services.nixmox = {
      enable = true;
      operators = [ "anna" ];
      stacks.cloud.services.postgres = {
        system.services.postgresql.enable = true;
        mounts = [ "/srv/postgres:/var/lib/postgresql" ];
        health.unit = "postgresql.service";
      };
    };
  }
  ```

  `nixos-rebuild` checks every manifest, so that a mistake fails the build and not the boot. `nixos-rebuild switch` shows the agent's plan and carries it out;
  a new version of the agent touches no container. What belongs to the host's configuration is changed there alone. A stack that
  could not be brought up fails the unit `nixmox-stacks`, whose log says why; `systemctl restart nixmox-stacks` tries again.

  ## The host

  ${lib.concatMapStringsSep "\n" (described "services.nixmox.") ofHost}
  ## Stacks

  ${lib.concatMapStringsSep "\n" (described "services.nixmox.") inStack}
  ### The keys of the manifest

  Types and texts are those of [manifest.md](manifest.md). `null` is a key that is left out.

  In `services.nixmox.stacks.<name>`:

  ${table "stack" (all [ ] manifest.stack.options)}
  In `services.nixmox.stacks.<name>.services.<name>`, beside `system`:

  ${table "" (all [ ] (removeAttrs manifest.service.options [ "system" ]))}
  ## Ready services

  Services that need no more than to be switched on. Each runs with few rights (a user namespace of its own, no new privileges), within limits,
  with a health check, and keeps its data in a folder of the host. All that a recipe says is a default: the options of
  `services.nixmox.stacks.<name>.services.<name>` change it.

  | service | what it is | GPU |
  |---|---|---|
  ${lib.concatStrings (lib.mapAttrsToList rowOfReady ready)}
  Where `gpu` is set, `ollama` is `pkgs.ollama-cuda`, and `llama-cpp` is built with `cudaSupport`: `pkgs.ollama` and `pkgs.llama-cpp` run models on the CPU alone, which
  their table `offload` refuses. CUDA is not free software, so that nixpkgs wants `nixpkgs.config.allowUnfree` or a predicate, and the second is built on
  your machine where no cache has it. For other GPUs name `pkgs.ollama-rocm` or `pkgs.ollama-vulkan`, `pkgs.llama-cpp-rocm` or `pkgs.llama-cpp-vulkan`:
  `services.nixmox.services.ollama.system = { services.ollama.package = pkgs.ollama-rocm; };`.

  Passwords and keys are no options: those that a service needs are files, which `credentials` makes once, in its `dataDir`.

  ${lib.concatMapStringsSep "\n" (described "services.nixmox.") ofReady}
  ## Guests

  `nixosModules.guest` is what a container brings that runs below NixMox; a module that is written in `system` gets it by itself. It makes the names of the
  other services resolve, leaves the network to the template, and is ready to be switched to a new system while it runs.

  ${lib.concatMapStringsSep "\n" (described "nixmox.") (all [ ] guest.options.nixmox)}''
