# Own code. A small stand-in for the parts of nixpkgs' lib that our Nix files use, so that they can be
# evaluated for real (option types, defaults, mkIf, priorities, assertions) on a machine without nixpkgs.
let
  inherit (builtins) all any attrNames attrValues concatLists concatMap concatStringsSep elem elemAt filter
    foldl' functionArgs head isAttrs isBool isFloat isFunction isInt isList isPath isString length listToAttrs
    map mapAttrs match removeAttrs stringLength substring tail toJSON toString typeOf genList;
  concat = concatLists;
  unique = foldl' (acc: x: if elem x acc then acc else acc ++ [ x ]) [ ];
  showLoc = concatStringsSep ".";
  isType = t: v: isAttrs v && (v._type or null) == t;
  nameValuePair = name: value: { inherit name value; };
  genAttrs = names: f: listToAttrs (map (n: nameValuePair n (f n)) names);
  filterAttrs = p: s: removeAttrs s (filter (n: !(p n s.${n})) (attrNames s));
  mapAttrsToList = f: s: map (n: f n s.${n}) (attrNames s);
  flatten = x: if isList x then concatMap flatten x else [ x ];

  # properties
  mkIf = condition: content: { _type = "if"; inherit condition content; };
  mkMerge = contents: { _type = "merge"; inherit contents; };
  mkOverride = priority: content: { _type = "override"; inherit priority content; };
  mkDefault = mkOverride 1000;
  mkForce = mkOverride 50;
  mkOptionDefault = mkOverride 1500;
  mkOption = a: { _type = "option"; } // a;
  mkEnableOption = what: mkOption { type = types.bool; default = false; description = "Whether to enable ${what}."; };
  mkPackageOption = pkgs: name: _: mkOption { type = types.package; default = pkgs.${name}; description = "The ${name} package to use."; };

  # mkIf c { a = 1; }  ->  { a = mkIf c 1; }, so that names are known before conditions are
  pushDown = v:
    if isType "if" v then map (mapAttrs (_: mkIf v.condition)) (pushDown v.content)
    else if isType "merge" v then concatMap pushDown v.contents
    else if isType "override" v then map (mapAttrs (_: mkOverride v.priority)) (pushDown v.content)
    else [ v ];
  discharge = v:
    if isType "if" v then (if v.condition then discharge v.content else [ ])
    else if isType "merge" v then concatMap discharge v.contents
    else [ v ];
  withPrio = v: if isType "override" v then { prio = v.priority; value = v.content; } else { prio = 100; value = v; };
  resolve = defs:
    let
      ds = concatMap (d: map withPrio (discharge d)) defs;
      best = foldl' (a: d: if d.prio < a then d.prio else a) 9999 ds;
    in concatMap (d: discharge d.value) (filter (d: d.prio == best) ds);

  mergeDefs = loc: type: defs:
    let vs = resolve defs; bad = filter (v: !(type.check v)) vs; in
    if vs == [ ] then throw "The option `${showLoc loc}' is used but not defined."
    else if bad != [ ] then throw "A definition for option `${showLoc loc}' is not of type `${type.name}': ${show (head bad)}"
    else type.merge loc vs;
  show = v: if isAttrs v || isFunction v then "<${typeOf v}>" else toJSON v;

  mkType = a: { _type = "option-type"; merge = mergeEqual; } // a;
  mergeEqual = loc: vs:
    if all (v: v == head vs) vs then head vs
    else throw "The option `${showLoc loc}' has conflicting definition values: ${concatStringsSep ", " (map show vs)}";
  mergeAny = loc: vs:
    if all isAttrs vs && !(any (v: v ? outPath) vs) then
      mapAttrs (n: _: mergeDefs (loc ++ [ n ]) types.anything (concatMap (v: if v ? ${n} then [ v.${n} ] else [ ]) vs))
        (foldl' (a: b: a // b) { } vs)
    else if all isList vs then concat vs
    else mergeEqual loc vs;

  types = rec {
    bool = mkType { name = "boolean"; check = isBool; };
    int = mkType { name = "signed integer"; check = isInt; };
    float = mkType { name = "floating point number"; check = isFloat; };
    ints.between = lo: hi: mkType { name = "integer between ${toString lo} and ${toString hi} (both inclusive)"; check = v: isInt v && v >= lo && v <= hi; };
    ints.positive = mkType { name = "positive integer, meaning >0"; check = v: isInt v && v > 0; };
    ints.unsigned = mkType { name = "unsigned integer, meaning >=0"; check = v: isInt v && v >= 0; };
    port = ints.between 0 65535;
    str = mkType { name = "string"; check = isString; };
    singleLineStr = mkType { name = "(optionally newline-terminated) single-line string"; check = v: isString v && match "[^\n]*\n?" v != null; };
    nonEmptyStr = mkType { name = "non-empty string"; check = v: isString v && match "[ \t\n]*" v == null; };
    lines = mkType { name = "strings concatenated with \"\\n\""; check = isString; merge = _: concatStringsSep "\n"; };
    strMatching = re: mkType { name = "string matching the pattern ${re}"; check = v: isString v && match re v != null; };
    enum = vs: mkType { name = "one of ${concatStringsSep ", " (map show vs)}"; check = v: elem v vs; };
    path = mkType { name = "absolute path"; check = v: isPath v || (isString v && substring 0 1 v == "/") || (isAttrs v && v ? outPath); };
    package = mkType { name = "package"; check = v: isAttrs v && v ? outPath; };
    unspecified = mkType { name = "unspecified"; check = _: true; };
    anything = mkType { name = "anything"; check = _: true; merge = mergeAny; };
    attrs = mkType { name = "attribute set"; check = isAttrs; merge = _: foldl' (a: b: a // b) { }; };
    listOf = t: mkType {
      name = "list of ${t.name}"; check = isList;
      merge = loc: vs: concat (map (l: concat (map (e: let r = resolve [ e ]; in if r == [ ] then [ ] else [ (mergeDefs (loc ++ [ "*" ]) t r) ]) l)) vs);
    };
    attrsOf = t: mkType {
      name = "attribute set of ${t.name}"; check = isAttrs;
      merge = loc: vs:
        let
          pushed = concatMap pushDown vs;
          names = unique (concatMap attrNames pushed);
          defsOf = n: concatMap (v: if v ? ${n} then [ v.${n} ] else [ ]) pushed;
        in genAttrs (filter (n: resolve (defsOf n) != [ ]) names) (n: mergeDefs (loc ++ [ n ]) t (defsOf n));
    };
    nullOr = t: mkType {
      name = "null or ${t.name}"; check = v: v == null || t.check v;
      merge = loc: vs: if all (v: v == null) vs then null else if any (v: v == null) vs then mergeEqual loc vs else t.merge loc vs;
    };
    either = a: b: mkType {
      name = "${a.name} or ${b.name}"; check = v: a.check v || b.check v;
      merge = loc: vs: if all a.check vs then a.merge loc vs else b.merge loc vs;
    };
    oneOf = ts: foldl' either (head ts) (tail ts);
    submodule = m: mkType {
      name = "submodule"; check = v: isAttrs v || isFunction v || isPath v;
      merge = loc: vs: (evalAt loc { modules = flatten [ m ] ++ vs; args = { name = elemAt loc (length loc - 1); }; }).config;
    };
  };

  # modules
  load = args: m:
    let
      v = if isPath m || isString m then import m else m;
      a = if isFunction v then v (args // mapAttrs (n: _: args.${n} or (throw "module argument `${n}' is missing")) (functionArgs v)) else v;
      known = [ "options" "config" "imports" "freeformType" "meta" "_file" "key" "_module" ];
    in
      if a ? options || a ? config || a ? imports || a ? freeformType then
        (if filter (n: !(elem n known)) (attrNames a) != [ ] then throw "module has both options/config and plain definitions" else
          concatMap (load args) (a.imports or [ ]) ++ [ { options = a.options or { }; config = a.config or { }; freeform = a.freeformType or null; } ])
      else [ { options = { }; config = a; freeform = null; } ];
  mergeOptions = loc: trees:
    genAttrs (unique (concatMap attrNames trees)) (n:
      let here = concatMap (t: if t ? ${n} then [ t.${n} ] else [ ]) trees; l = loc ++ [ n ]; in
      if any (isType "option") here then (if length here == 1 then head here else throw "The option `${showLoc l}' is declared twice.")
      else mergeOptions l here);
  mergeTree = loc: freeform: opts: defs:
    let
      pushed = concatMap pushDown defs;
      defsOf = n: concatMap (v: if v ? ${n} then [ v.${n} ] else [ ]) pushed;
      unknown = filter (n: !(opts ? ${n})) (unique (concatMap attrNames pushed));
      declared = mapAttrs (n: o:
        let l = loc ++ [ n ]; in
        if isType "option" o then
          (o.apply or (x: x)) (mergeDefs l o.type ((if o ? default then [ (mkOptionDefault o.default) ] else [ ]) ++ defsOf n))
        else mergeTree l null o (defsOf n)) opts;
      extra = if freeform == null then { } else freeform.merge loc (map (v: removeAttrs v (attrNames opts)) pushed);
    in
      if freeform == null && filter (n: resolve (defsOf n) != [ ]) unknown != [ ]
      then throw "The option `${showLoc (loc ++ [ (head unknown) ])}' does not exist."
      else extra // declared;
  evalAt = loc: { modules, args ? { } }:
    let
      loaded = concatMap (load ({ inherit lib config; options = opts; } // args)) modules;
      opts = mergeOptions loc (map (m: m.options) loaded);
      freeform = foldl' (a: m: if m.freeform != null then m.freeform else a) null loaded;
      config = mergeTree loc freeform opts (map (m: m.config) loaded);
    in { inherit config; options = opts; };

  lib = {
    inherit all any attrNames attrValues concatLists concatMap concatStringsSep elem filter filterAttrs flatten
      genAttrs genList head isAttrs isString length listToAttrs mapAttrs mapAttrsToList mkDefault mkEnableOption
      mkForce mkIf mkMerge mkOption mkOptionDefault mkOverride mkPackageOption nameValuePair stringLength tail types unique;
    evalModules = evalAt [ ];
    # The last item of a list.
    lastOf = l: elemAt l (length l - 1);
    # An option whose value is a function, which no JSON can hold.
    mkFunctionOption = mkOption {
      type = types.nullOr (mkType { name = "function"; check = isFunction; merge = _: head; });
      default = null;
      apply = f: if f == null then null else "a function";
    };
    literalExpression = text: { _type = "literalExpression"; inherit text; };
    optional = c: v: if c then [ v ] else [ ];
    optionals = c: v: if c then v else [ ];
    optionalAttrs = c: v: if c then v else { };
    optionalString = c: v: if c then v else "";
    concatMapStringsSep = s: f: l: concatStringsSep s (map f l);
    getExe = p: "${p}/bin/${p.meta.mainProgram or p.pname}";
    getExe' = p: n: "${p}/bin/${n}";
    fileset = { unions = l: l; toSource = { root, ... }: root; };
    strings.sanitizeDerivationName = n: builtins.replaceStrings [ "@" ] [ "-" ] n;
  };
in lib
