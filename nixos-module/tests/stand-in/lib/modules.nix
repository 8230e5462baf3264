# Modules: options that are declared, definitions that are merged.
#
#   modules ──load──▶ options (one tree) and definitions ──merge──▶ config
{ lib }:
let
  inherit (builtins)
    any
    attrNames
    concatMap
    concatStringsSep
    elem
    filter
    foldl'
    functionArgs
    head
    isAttrs
    isFunction
    isPath
    isString
    mapAttrs
    removeAttrs
    tail
    toJSON
    ;

  isType = type: value: isAttrs value && value._type or null == type;
  showOption = concatStringsSep ".";

  mkIf = condition: content: {
    _type = "if";
    inherit condition content;
  };
  mkMerge = contents: {
    _type = "merge";
    inherit contents;
  };
  mkOverride = priority: content: {
    _type = "override";
    inherit priority content;
  };
  mkOrder = order: content: {
    _type = "order";
    inherit order content;
  };
  mkOption = option: { _type = "option"; } // option;

  # mkIf c { a = 1; } becomes { a = mkIf c 1; }: names are known before conditions are.
  pushDown =
    value:
    if isType "if" value then
      map (mapAttrs (_: mkIf value.condition)) (pushDown value.content)
    else if isType "merge" value then
      concatMap pushDown value.contents
    else if isType "override" value then
      map (mapAttrs (_: mkOverride value.priority)) (pushDown value.content)
    else
      [ value ];

  discharge =
    value:
    if isType "if" value then
      lib.optionals value.condition (discharge value.content)
    else if isType "merge" value then
      concatMap discharge value.contents
    else
      [ value ];

  # The values of those definitions that have the highest priority, which is the lowest number, in their order.
  resolve =
    definitions:
    let
      withPriority =
        value:
        if isType "override" value then
          { inherit (value) priority content; }
        else
          {
            priority = 100;
            content = value;
          };
      all = map withPriority (concatMap discharge definitions);
      highest = foldl' (least: value: if value.priority < least then value.priority else least) 9999 all;
    in
    inOrder (
      concatMap (value: discharge value.content) (filter (value: value.priority == highest) all)
    );

  inOrder =
    values:
    let
      ordered = map (
        value:
        if isType "order" value then
          { inherit (value) order content; }
        else
          {
            order = 1000;
            content = value;
          }
      ) values;
    in
    map (value: value.content) (builtins.sort (a: b: a.order < b.order) ordered);

  mergeDefinitions =
    place: type: definitions:
    let
      values = resolve definitions;
      wrong = filter (value: !type.check value) values;
      show =
        value: if isAttrs value || isFunction value then "a ${builtins.typeOf value}" else toJSON value;
    in
    if values == [ ] then
      throw "The option `${showOption place}' was accessed but has no value defined. Try setting the option."
    else if wrong != [ ] then
      throw "A definition for option `${showOption place}' is not of type `${type.description}'. Definition values: ${show (head wrong)}"
    else
      type.merge place values;

  # A module and what it imports, as a list of { options, config, freeform }.
  load =
    arguments: module:
    let
      value = if isPath module || isString module then import module else module;
      argument =
        name: hasDefault:
        if arguments ? ${name} then
          { ${name} = arguments.${name}; }
        else if hasDefault then
          { }
        else
          throw "A module takes the argument `${name}', which there is not.";
      called =
        if isFunction value then
          value (
            arguments
            // foldl' (given: name: given // argument name (functionArgs value).${name}) { } (
              attrNames (functionArgs value)
            )
          )
        else
          value;
      # These may stand beside plain definitions, and beside `config` and `options`.
      about = [
        "_file"
        "freeformType"
        "imports"
        "key"
      ];
      structured = called ? config || called ? options;
      unknown = filter (
        name:
        !elem name (
          about
          ++ [
            "config"
            "options"
            "meta"
          ]
        )
      ) (attrNames called);
    in
    if structured && unknown != [ ] then
      throw "Module has an unsupported attribute `${head unknown}': with `config' or `options' in it, what is defined stands in `config'."
    else
      concatMap (load arguments) (called.imports or [ ])
      ++ [
        {
          options = called.options or { };
          config = if structured then called.config or { } else removeAttrs called about;
          freeform = called.freeformType or null;
        }
      ];

  # One option that is declared in several places: only types with options inside can be.
  mergeDeclarations =
    place: declarations:
    foldl' (
      first: second:
      let
        type = first.type.extend second.type;
      in
      if type == null then
        throw "The option `${showOption place}' is already declared."
      else
        first // second // { inherit type; }
    ) (head declarations) (tail declarations);

  mergeOptions =
    place: trees:
    lib.genAttrs (lib.unique (concatMap attrNames trees)) (
      name:
      let
        here = concatMap (tree: lib.optional (tree ? ${name}) tree.${name}) trees;
        inside = place ++ [ name ];
      in
      if any (isType "option") here then
        mergeDeclarations inside here // { loc = inside; }
      else
        mergeOptions inside here
    );

  mergeTree =
    place: freeform: options: definitions:
    let
      sets = concatMap pushDown definitions;
      valuesOf = name: concatMap (set: lib.optional (set ? ${name}) set.${name}) sets;
      unknown = filter (name: !options ? ${name} && resolve (valuesOf name) != [ ]) (
        lib.unique (concatMap attrNames sets)
      );
      declared = mapAttrs (
        name: option:
        let
          inside = place ++ [ name ];
          default = lib.optional (option ? default) (mkOverride 1500 option.default);
        in
        if isType "option" option then
          (option.apply or (value: value)) (mergeDefinitions inside option.type (default ++ valuesOf name))
        else
          mergeTree inside null option (valuesOf name)
      ) options;
      others = map (set: removeAttrs set (attrNames options)) sets;
    in
    if freeform != null then
      freeform.merge place others // declared
    else if unknown != [ ] then
      throw "The option `${showOption (place ++ [ (head unknown) ])}' does not exist."
    else
      declared;

  evaluateAt =
    place:
    {
      modules,
      arguments ? { },
    }:
    let
      loaded = concatMap (load ({ inherit lib config options; } // arguments)) modules;
      options = mergeOptions place (map (module: module.options) loaded);
      freeforms = filter (type: type != null) (map (module: module.freeform) loaded);
      freeform = if freeforms == [ ] then null else head freeforms;
      config = mergeTree place freeform options (map (module: module.config) loaded);
    in
    {
      inherit config options;
    };
in
{
  inherit
    evaluateAt
    isType
    mergeDefinitions
    mkIf
    mkMerge
    mkOption
    mkOverride
    pushDown
    resolve
    showOption
    ;
  mkForce = mkOverride 50;
  mkBefore = mkOrder 500;
  mkAfter = mkOrder 1500;
  mkDefault = mkOverride 1000;
  mkEnableOption =
    what:
    mkOption {
      type = lib.types.bool;
      default = false;
      example = true;
      description = "Whether to enable ${what}.";
    };
  mkPackageOption =
    pkgs: name: _:
    mkOption {
      type = lib.types.package;
      default = pkgs.${name};
      defaultText = lib.literalExpression "pkgs.${name}";
      description = "The ${name} package to use.";
    };
  evalModules =
    {
      modules,
      specialArgs ? { },
      prefix ? [ ],
    }:
    evaluateAt prefix {
      inherit modules;
      arguments = specialArgs;
    };
  isOption = isType "option";
}
