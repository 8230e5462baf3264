# The manifest's keys as options: names, types, defaults and texts are those of `schema.json`, which `nixmoxctl schema` prints.
#
# A key that is new there is an option here, with nothing more to do. JSON Schema says more than an option can: what is left out here
# `nixmoxctl check` says when the system is built.
{ lib }:
let
  inherit (lib) mkOption types;
  schema = builtins.fromJSON (builtins.readFile ./schema.json);

  # The regular expressions of Nix match the whole text and know no look-ahead; where ours has one, it refuses nothing but "".
  pattern =
    expression:
    let
      begins = lib.removePrefix "^" (lib.replaceStrings [ "(?=.)" ] [ "" ] expression);
    in
    if lib.hasSuffix "$" begins then lib.removeSuffix "$" begins else "${begins}.*";

  integer =
    key:
    if key ? maximum then
      types.ints.between key.minimum key.maximum
    else if key.minimum or null == 0 then
      types.ints.unsigned
    else if key.minimum or null == 1 then
      types.ints.positive
    else
      types.int;

  # What is refused is told by an example: nobody reads a regular expression.
  text =
    key: examples:
    let
      example = lib.findFirst lib.isString null examples;
    in
    types.strMatching (pattern key.pattern)
    // lib.optionalAttrs (example != null) { description = "text such as ${builtins.toJSON example}"; };

  typeOf =
    key: around:
    let
      examples = key.examples or around;
      inside = lib.concatMap (example: if lib.isList example then example else [ ]) examples;
    in
    if key ? anyOf then
      types.oneOf (map (form: typeOf form examples) key.anyOf)
    else if key ? enum then
      types.enum key.enum
    else if key ? pattern then
      text key examples
    else if key ? properties then
      types.submodule { options = optionsOf key; }
    else
      {
        array = types.listOf (typeOf key.items inside);
        boolean = types.bool;
        integer = integer key;
        object = types.attrsOf (typeOf key.additionalProperties [ ]);
        string = types.str;
      }
      .${key.type};

  # A key that may be missing is null, unless the schema names what it then is.
  optionsOf =
    table:
    lib.mapAttrs (
      name: key:
      let
        required = lib.elem name (table.required or [ ]);
        type = typeOf key [ ];
      in
      mkOption (
        {
          inherit (key) description;
        }
        // lib.optionalAttrs (key ? examples) { example = lib.head key.examples; }
        // (
          if key ? default then
            {
              inherit type;
              inherit (key) default;
            }
          else if required then
            { inherit type; }
          else
            {
              type = types.nullOr type;
              default = null;
            }
        )
      )
    ) table.properties;

  # The alternative of a key that a value was written in.
  formOf =
    value: key:
    lib.findFirst (form: form.type or null == (if lib.isAttrs value then "object" else "array")) { } (
      key.anyOf or [ key ]
    );

  # What was set, without what the manifest means anyway: a default that is not written down stays one.
  written =
    key: value:
    let
      form = formOf value key;
    in
    if lib.isAttrs value && form ? properties then
      lib.mapAttrs (name: written form.properties.${name}) (
        lib.filterAttrs (
          name: inside:
          inside != null && (!form.properties.${name} ? default || inside != form.properties.${name}.default)
        ) value
      )
    else if lib.isList value && form ? items then
      map (written form.items) value
    else
      value;

  service = schema.properties.services.additionalProperties;
  inherit (schema.properties) stack;
in
{
  # Of a stack: what stands in `[stack]`, but for what the module writes itself.
  stack = {
    options = removeAttrs (optionsOf stack) [
      "include"
      "name"
      "owner"
    ];
    written = written stack;
  };

  # Of a service: what stands in `[services.NAME]`.
  service = {
    options = optionsOf service;
    written = written service;
  };
}
