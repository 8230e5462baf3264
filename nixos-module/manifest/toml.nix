# A value as TOML, laid out as a person would write it: what is plain first, then each table under its header.
#
# Not `pkgs.formats.toml`, whose text exists only when it is built: this one is there at evaluation, so that tests read and check it.
{ lib }:
let
  inherit (builtins) toJSON;

  key = name: if builtins.match "[A-Za-z0-9_-]+" name != null then name else toJSON name;

  # A string of JSON is one of TOML too.
  inline =
    value:
    if lib.isAttrs value then
      if value == { } then
        "{ }"
      else
        "{ ${
          lib.concatStringsSep ", " (
            lib.mapAttrsToList (name: inside: "${key name} = ${inline inside}") value
          )
        } }"
    else if lib.isList value then
      "[${lib.concatMapStringsSep ", " inline value}]"
    else
      toJSON value;

  table =
    path: value:
    let
      tables = lib.filterAttrs (_: lib.isAttrs) value;
      plain = lib.filterAttrs (_: inside: !lib.isAttrs inside) value;
      header = "\n[${lib.concatMapStringsSep "." key path}]\n";
    in
    lib.optionalString (path != [ ] && (plain != { } || tables == { })) header
    + lib.concatLines (lib.mapAttrsToList (name: inside: "${key name} = ${inline inside}") plain)
    + lib.concatStringsSep "" (lib.mapAttrsToList (name: table (path ++ [ name ])) tables);
in
table [ ]
