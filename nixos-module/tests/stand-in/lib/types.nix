# Option types: what a value must be, and how several definitions become one.
#
# A type has a `description`, `check`, and `merge` (place, values with the highest priority). Those with options inside have
# `getSubOptions`, and those that can be declared in two places have `extend`, which takes the other declaration's type.
{ lib }:
let
  inherit (builtins)
    all
    any
    attrNames
    concatLists
    concatMap
    concatStringsSep
    elem
    elemAt
    filter
    foldl'
    head
    isAttrs
    isBool
    isFloat
    isFunction
    isInt
    isList
    isPath
    isString
    length
    map
    match
    substring
    tail
    toJSON
    toString
    ;
  inherit (lib)
    mergeDefinitions
    pushDown
    resolve
    showOption
    ;

  mkType =
    type:
    {
      _type = "option-type";
      merge = mergeEqual;
      getSubOptions = _: { };
      extend = _: null;
    }
    // type;

  show =
    value: if isAttrs value || isFunction value then "a ${builtins.typeOf value}" else toJSON value;

  mergeEqual =
    place: values:
    if all (value: value == head values) values then
      head values
    else
      throw "The option `${showOption place}' has conflicting definition values: ${concatStringsSep ", " (map show values)}";

  mergeOne =
    place: values:
    if length values == 1 then
      head values
    else
      throw "The option `${showOption place}' is defined multiple times while it's expected to be unique.";

  mergeAnything =
    place: values:
    if all isAttrs values && !any (value: value ? outPath) values then
      lib.genAttrs (lib.unique (concatMap attrNames values)) (
        name:
        mergeDefinitions (place ++ [ name ]) types.anything (
          concatMap (value: lib.optional (value ? ${name}) value.${name}) values
        )
      )
    else if all isList values then
      concatLists values
    else
      mergeEqual place values;

  string =
    description: accepts:
    mkType {
      inherit description;
      check = value: isString value && accepts value;
    };

  integer =
    description: accepts:
    mkType {
      inherit description;
      check = value: isInt value && accepts value;
    };

  # Several values of one attribute or element, wherever they are defined.
  valuesOf = name: sets: concatMap (set: lib.optional (set ? ${name}) set.${name}) sets;

  types = {
    bool = mkType {
      description = "boolean";
      check = isBool;
    };
    int = integer "signed integer" (_: true);
    port = types.ints.between 0 65535;
    ints = {
      between =
        low: high:
        integer "integer between ${toString low} and ${toString high} (both inclusive)" (
          value: value >= low && value <= high
        );
      positive = integer "positive integer, meaning >0" (value: value > 0);
      unsigned = integer "unsigned integer, meaning >=0" (value: value >= 0);
    };
    float = mkType {
      description = "floating point number";
      check = isFloat;
    };
    str = string "string" (_: true);
    singleLineStr = string "(optionally newline-terminated) single-line string" (
      value: match "[^\n]*\n?" value != null
    );
    nonEmptyStr = string "non-empty string" (value: match "[ \t\n]*" value == null);
    strMatching =
      pattern: string "string matching the pattern ${pattern}" (value: match pattern value != null);
    lines = string "strings concatenated with \"\\n\"" (_: true) // {
      merge = _: concatStringsSep "\n";
    };
    enum =
      values:
      mkType {
        description = "one of ${concatStringsSep ", " (map show values)}";
        check = value: elem value values;
      };
    path = mkType {
      description = "absolute path";
      check =
        value:
        isPath value
        || (isString value && substring 0 1 value == "/")
        || (isAttrs value && value ? outPath);
    };
    package = mkType {
      description = "package";
      check = value: isAttrs value && value ? outPath;
      merge = mergeOne;
    };
    raw = mkType {
      description = "raw value";
      check = _: true;
      merge = mergeOne;
    };
    anything = mkType {
      description = "anything";
      check = _: true;
      merge = mergeAnything;
    };
    deferredModule = mkType {
      description = "module";
      check = value: isAttrs value || isFunction value || isPath value;
      merge = _: imports: { inherit imports; };
    };

    listOf =
      element:
      mkType {
        description = "list of ${element.description}";
        check = isList;
        merge =
          place: lists:
          concatMap (
            definition:
            let
              resolved = resolve [ definition ];
            in
            lib.optional (resolved != [ ]) (mergeDefinitions (place ++ [ "*" ]) element resolved)
          ) (concatLists lists);
        getSubOptions = place: element.getSubOptions (place ++ [ "*" ]);
      };
    attrsOf =
      element:
      mkType {
        description = "attribute set of ${element.description}";
        check = isAttrs;
        inherit element;
        merge =
          place: values:
          let
            sets = concatMap pushDown values;
            names = filter (name: resolve (valuesOf name sets) != [ ]) (lib.unique (concatMap attrNames sets));
          in
          lib.genAttrs names (name: mergeDefinitions (place ++ [ name ]) element (valuesOf name sets));
        getSubOptions = place: element.getSubOptions (place ++ [ "<name>" ]);
        extend = other: types.attrsOf (element.extend other.element);
      };
    nullOr =
      element:
      mkType {
        description = "null or ${element.description}";
        check = value: value == null || element.check value;
        merge =
          place: values:
          if all (value: value == null) values then
            null
          else if any (value: value == null) values then
            throw "The option `${showOption place}' is defined both null and not null."
          else
            element.merge place values;
        inherit (element) getSubOptions;
      };
    either =
      first: second:
      mkType {
        description = "${first.description} or ${second.description}";
        check = value: first.check value || second.check value;
        merge =
          place: values:
          if all first.check values then
            first.merge place values
          else if all second.check values then
            second.merge place values
          else
            mergeEqual place values;
      };
    oneOf = list: foldl' types.either (head list) (tail list);

    submodule =
      module:
      let
        modules = lib.flatten [ module ];
        evaluate =
          place: definitions:
          lib.evaluateAt place {
            modules = modules ++ definitions;
            arguments.name = elemAt place (length place - 1);
          };
      in
      mkType {
        description = "submodule";
        check = value: isAttrs value || isFunction value || isPath value;
        inherit modules;
        # A set defines values and nothing else: an option in there may be called `config`.
        merge =
          place: values:
          (evaluate place (map (value: if isAttrs value then { config = value; } else value) values)).config;
        getSubOptions = place: (evaluate place [ ]).options;
        extend = other: types.submodule (modules ++ other.modules);
      };
  };
in
{
  inherit types;
}
