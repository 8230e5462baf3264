# NixOS tests: every scenario, on a NixOS with our module, and those of nixos/, which only a NixOS can run. Each is found by its file.
#
# A scenario whose first lines say `# Not on NixOS: REASON` is left out; `cargo xtask nix` looks whether it has to be.
{
  lib,
  pkgs,
  module,
}:
let
  scripts =
    folder:
    map (lib.removeSuffix ".py") (
      lib.filter (lib.hasSuffix ".py") (lib.attrNames (builtins.readDir folder))
    );
  isLeftOut =
    text: lib.any (lib.hasPrefix "# Not on NixOS: ") (lib.take 5 (lib.splitString "\n" text));

  test =
    name: script: node:
    pkgs.testers.runNixOSTest {
      name = "nixmox-${name}";
      # The driver calls the only machine `machine`.
      nodes.machine.imports = [
        module
        ./node.nix
        node
      ];
      testScript = builtins.readFile script;
      # Who hangs is ended.
      globalTimeout = 20 * 60;
    };

  scenarios = lib.filter (name: !isLeftOut (builtins.readFile (./scenarios + "/${name}.py"))) (
    scripts ./scenarios
  );
in
lib.listToAttrs (
  map (name: lib.nameValuePair "vm-${name}" (test name (./scenarios + "/${name}.py") { })) scenarios
  ++ map (
    name:
    lib.nameValuePair "nixos-${name}" (
      test "on-${name}" (./nixos + "/${name}.py") (./nixos + "/${name}.nix")
    )
  ) (scripts ./nixos)
)
