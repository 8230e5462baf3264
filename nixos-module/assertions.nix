# Mistakes that only the whole configuration shows, or that are told better by the option's name than by a line of the manifest.
# What is wrong within one manifest `nixmoxctl check` says when the system is built.
{ config, lib, ... }:
let
  cfg = config.services.nixmox;
  ports = import ./manifest/ports.nix { inherit lib; };

  # Every service of every stack that is written here: { stack, name, service, option }.
  services = lib.concatLists (
    lib.mapAttrsToList (
      stack: declared:
      lib.mapAttrsToList (name: service: {
        inherit stack name service;
        option = "services.nixmox.stacks.${stack}.services.${name}";
      }) declared.services
    ) cfg.stacks
  );
  # A build does not see the rest of the machine.
  manifests = perStack (
    name: stack:
    unless
      (
        stack.file == null
        || builtins.isPath stack.file
        || lib.hasPrefix builtins.storeDir (toString stack.file)
      )
      "services.nixmox.stacks.${name}.file: `${toString stack.file}` is a text. Write a path of the configuration, without quotes."
  );
  perService = check: lib.concatMap check services;
  perStack = check: lib.concatLists (lib.mapAttrsToList check cfg.stacks);
  refuse = message: {
    assertion = false;
    inherit message;
  };
  unless = condition: message: lib.optional (!condition) (refuse message);

  # Each pair once.
  pairs =
    list:
    if list == [ ] then
      [ ]
    else
      map (other: {
        first = lib.head list;
        second = other;
      }) (lib.tail list)
      ++ pairs (lib.tail list);

  # The manifest lies in the store, so a path that is relative to it means nothing that was meant.
  isRelative = path: !lib.hasPrefix "/" path;
  sourceOf = mount: if lib.isString mount then lib.head (lib.splitString ":" mount) else mount.source;

  placesAndPaths =
    { option, service, ... }:
    map (mount: {
      place = "${option}.mounts";
      path = sourceOf mount;
    }) service.mounts
    ++ lib.mapAttrsToList (name: path: {
      place = "${option}.credentials.${name}";
      inherit path;
    }) service.credentials;

  paths = perService (
    of:
    lib.concatMap (
      { place, path }:
      unless (!isRelative path)
        "${place}: `${path}` is relative. Write an absolute path, or \"\${./file}\" for a file of the configuration."
    ) (placesAndPaths of)
  );

  systems = perService (
    { option, service, ... }:
    unless (!(lib.isString service.system && lib.hasPrefix "." service.system))
      "${option}.system: `${toString service.system}` is relative. Write the module or the package itself, without quotes, or a flake by its whole name."
  );

  secrets = perService (
    { option, service, ... }:
    lib.concatLists (
      lib.mapAttrsToList (
        name: path:
        unless (
          !lib.hasPrefix "/nix/store/" path
        ) "${option}.credentials.${name}: the store is readable by everybody. Name a file outside of it."
      ) service.credentials
    )
  );

  # "name", or "stack/name".
  dependenciesOf =
    service:
    if lib.isList service.depends_on then service.depends_on else lib.attrNames service.depends_on;
  dependencies = perService (
    {
      stack,
      option,
      service,
      ...
    }:
    lib.concatMap (
      dependency:
      let
        parts = lib.splitString "/" dependency;
        inOther = lib.length parts == 2;
        there = if inOther then lib.head parts else stack;
        name = if inOther then lib.elemAt parts 1 else dependency;
        declared = cfg.stacks.${there};
      in
      # Another stack may have been brought up by hand, and a file is read by nixmoxctl alone.
      if !cfg.stacks ? ${there} || declared.file != null then
        [ ]
      else
        unless (
          declared.services ? ${name}
        ) "${option}.depends_on: there is no services.nixmox.stacks.${there}.services.${name}."
    ) (dependenciesOf service)
  );

  adoptions = perService (
    {
      name,
      option,
      service,
      ...
    }:
    if service.adopt then
      unless (config.containers ? ${name})
        "${option}.adopt: there is no containers.${name} in this configuration. A container that was made with nixos-container(8) is adopted by a stack that is not part of it."
    else
      unless (!config.containers ? ${name})
        "${option}: containers.${name} is there already. Set ${option}.adopt = true, or choose another name."
  );

  files = perStack (
    name: stack:
    unless (stack.file == null || stack.services == { } && stack.limits == null)
      "services.nixmox.stacks.${name}.file: what is written in `services` and `limits` beside it would not be read. Move it into the file, or leave `file` out."
  );

  names = lib.concatMap (
    { first, second }:
    unless (first.name != second.name)
      "${second.option}: ${first.option} has the same name, and both would be the container ${first.name}."
  ) (pairs services);

  published = perService (
    { option, service, ... }:
    map (port: {
      inherit option;
      port = ports.parse port;
    }) (if service.network == null then [ ] else service.network.ports)
  );
  collisions = lib.concatMap (
    { first, second }:
    unless (
      !ports.collide first.port second.port
    ) "${second.option}.network.ports: ${ports.show second.port} is published by ${first.option} too."
  ) (pairs published);
in
{
  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = lib.versionAtLeast config.system.stateVersion "22.05";
        message = "services.nixmox.enable: with system.stateVersion before 22.05, NixOS keeps containers in /var/lib/containers, where the agent does not look.";
      }
    ]
    ++ files
    ++ manifests
    ++ names
    ++ adoptions
    ++ systems
    ++ paths
    ++ secrets
    ++ dependencies
    ++ collisions;
  };
}
