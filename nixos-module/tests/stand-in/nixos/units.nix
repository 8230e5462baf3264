# How NixOS writes units: `systemd.services` and `systemd.sockets` in, the texts in `systemd.units` out.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib)
    concatMapStrings
    concatStringsSep
    isBool
    isList
    mapAttrsToList
    nameValuePair
    ;
  inherit (builtins) toJSON toString;

  word = value: if isBool value then (if value then "true" else "false") else toString value;
  lines =
    settings:
    concatMapStrings (line: line + "\n") (
      lib.concatLists (
        mapAttrsToList (
          key: value: map (one: "${key}=${word one}") (if isList value then value else [ value ])
        ) settings
      )
    );
  words = key: list: lib.optionalAttrs (list != [ ]) { ${key} = concatStringsSep " " list; };
  text = key: value: lib.optionalAttrs (value != "") { ${key} = value; };

  unit =
    options:
    text "Description" options.description
    // words "Documentation" options.documentation
    // words "After" options.after
    // words "Before" options.before
    // words "Requires" options.requires
    // words "Wants" options.wants
    // options.unitConfig;

  # Every service of NixOS finds these.
  basics = [
    "coreutils"
    "findutils"
    "gnugrep"
    "gnused"
    "systemd"
  ];

  service =
    options:
    let
      own = map (package: "${package}") options.path;
      inherited = map (name: "/run/${name}") basics;
      path = concatStringsSep ":" (
        map (folder: "${folder}/bin") (own ++ inherited)
        ++ map (folder: "${folder}/sbin") (own ++ inherited)
      );
      environment = options.environment // {
        PATH = path;
      };
    in
    "[Unit]\n"
    + lines (
      unit options
      // lib.optionalAttrs (options.restartTriggers != [ ]) {
        X-Restart-Triggers = concatStringsSep " " (map toString options.restartTriggers);
      }
    )
    + "\n[Service]\n"
    + concatMapStrings (line: line + "\n") (
      mapAttrsToList (name: value: "Environment=${toJSON "${name}=${value}"}") environment
    )
    + lib.optionalString (!options.restartIfChanged) "X-RestartIfChanged=false\n"
    + lib.optionalString (!options.stopIfChanged) "X-StopIfChanged=false\n"
    + lines options.serviceConfig
    + lib.optionalString (
      options.script != ""
    ) "ExecStart=${pkgs.writeShellScript "start" options.script}\n";

  socket =
    options:
    "[Unit]\n"
    + lines (unit options)
    + "\n[Socket]\n"
    + concatMapStrings (stream: "ListenStream=${stream}\n") options.listenStreams
    + lines options.socketConfig;

  # NixOS has no [Install]: it makes the links itself.
  wanted =
    options:
    lib.optionalString (
      options.wantedBy != [ ]
    ) "\n[Install]\nWantedBy=${concatStringsSep " " options.wantedBy}\n";
  all =
    suffix: write:
    lib.mapAttrs' (
      name: options: nameValuePair "${name}.${suffix}" { text = write options + wanted options; }
    );
in
{
  options.systemd.units = lib.mkOption {
    type = lib.types.attrsOf lib.types.raw;
    default = { };
  };
  config.systemd.units =
    all "service" service config.systemd.services // all "socket" socket config.systemd.sockets;
}
