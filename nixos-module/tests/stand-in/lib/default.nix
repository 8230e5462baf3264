# The functions of nixpkgs' `lib` that our files call, beside types and modules.
let
  inherit (builtins)
    attrNames
    attrValues
    concatLists
    concatMap
    concatStringsSep
    elem
    filter
    foldl'
    genList
    head
    isList
    isString
    length
    listToAttrs
    mapAttrs
    removeAttrs
    replaceStrings
    split
    stringLength
    substring
    tail
    ;
  nameValuePair = name: value: { inherit name value; };
  optionals = condition: list: if condition then list else [ ];

  lib = {
    inherit
      attrNames
      attrValues
      concatLists
      concatMap
      concatStringsSep
      elem
      filter
      foldl'
      genList
      head
      isList
      isString
      length
      listToAttrs
      mapAttrs
      nameValuePair
      optionals
      removeAttrs
      replaceStrings
      stringLength
      tail
      ;
    inherit (builtins)
      elemAt
      isAttrs
      isBool
      ;

    # Lists
    any = builtins.any;
    take =
      count: list: genList (builtins.elemAt list) (if count < length list then count else length list);
    optional = condition: value: optionals condition [ value ];
    flatten = value: if isList value then concatMap lib.flatten value else [ value ];
    unique = foldl' (known: value: if elem value known then known else known ++ [ value ]) [ ];
    singleton = value: [ value ];
    findFirst =
      predicate: default: list:
      let
        found = filter predicate list;
      in
      if found == [ ] then default else head found;

    # Attribute sets
    genAttrs = names: f: listToAttrs (map (name: nameValuePair name (f name)) names);
    filterAttrs = keep: set: removeAttrs set (filter (name: !keep name set.${name}) (attrNames set));
    mapAttrs' = f: set: listToAttrs (lib.mapAttrsToList f set);
    makeBinPath = lib.concatMapStringsSep ":" (package: "${package}/bin");
    escapeShellArg =
      text:
      if builtins.match "[[:alnum:],._+:@%/-]+" text == null then
        "'${replaceStrings [ "'" ] [ "'\\''" ] text}'"
      else
        text;
    escapeShellArgs = lib.concatMapStringsSep " " lib.escapeShellArg;
    mapAttrsRecursive =
      f:
      let
        inside =
          path:
          mapAttrs (
            name: value:
            if builtins.isAttrs value then inside (path ++ [ name ]) value else f (path ++ [ name ]) value
          );
      in
      inside [ ];
    recursiveUpdate =
      old: new:
      old
      // mapAttrs (
        name: value:
        if builtins.isAttrs value && builtins.isAttrs (old.${name} or null) then
          lib.recursiveUpdate old.${name} value
        else
          value
      ) new;
    mapAttrsToList = f: set: map (name: f name set.${name}) (attrNames set);
    concatMapAttrs = f: set: foldl' (result: name: result // f name set.${name}) { } (attrNames set);
    optionalAttrs = condition: set: if condition then set else { };
    getAttrs = names: set: lib.genAttrs names (name: set.${name});

    # Strings
    boolToString = value: if value then "true" else "false";
    optionalString = condition: text: if condition then text else "";
    concatMapStringsSep =
      separator: f: list:
      concatStringsSep separator (map f list);
    concatMapStrings = lib.concatMapStringsSep "";
    concatStrings = concatStringsSep "";
    concatLines = lib.concatMapStrings (line: line + "\n");
    hasPrefix = prefix: text: substring 0 (stringLength prefix) text == prefix;
    hasSuffix =
      suffix: text:
      let
        start = stringLength text - stringLength suffix;
      in
      start >= 0 && substring start (stringLength suffix) text == suffix;
    removePrefix =
      prefix: text:
      if lib.hasPrefix prefix text then
        substring (stringLength prefix) (stringLength text) text
      else
        text;
    removeSuffix =
      suffix: text:
      if lib.hasSuffix suffix text then
        substring 0 (stringLength text - stringLength suffix) text
      else
        text;
    splitString = separator: text: filter isString (split (lib.escapeRegex separator) text);
    escapeRegex =
      let
        special = lib.splitCharacters "\\[{()^$?*+|.";
      in
      replaceStrings special (map (character: "\\" + character) special);
    splitCharacters = text: genList (index: substring index 1 text) (stringLength text);
    versionAtLeast = version: least: builtins.compareVersions version least >= 0;
    importTOML = path: builtins.fromTOML (builtins.readFile path);

    # Packages
    getExe = package: "${package}/bin/${package.meta.mainProgram}";
    getExe' = package: name: "${package}/bin/${name}";
    fileset = {
      unions =
        paths:
        map (
          path: builtins.seq (builtins.pathExists path || throw "${toString path} does not exist") path
        ) paths;
      toSource = { root, fileset }: builtins.deepSeq fileset root;
    };
    licenses = lib.genAttrs [ "mit" "asl20" ] (shortName: {
      inherit shortName;
    });
    platforms.linux = [
      "x86_64-linux"
      "aarch64-linux"
    ];

    # Text for the documentation of options
    literalExpression = text: {
      _type = "literalExpression";
      inherit text;
    };
  }
  // import ./types.nix { inherit lib; }
  // import ./modules.nix { inherit lib; };
in
lib
