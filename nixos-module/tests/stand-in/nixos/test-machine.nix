# What the machine of a NixOS test has beside every other system: the options of its hardware, and what tests set by default.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  option = type: default: mkOption { inherit type default; };
in
{
  options.virtualisation = {
    cores = option types.ints.positive 1;
    memorySize = option types.ints.positive 1024;
    diskSize = option types.ints.positive 1024;
    writableStore = option types.bool true;
    writableStoreUseTmpfs = option types.bool true;
  };

  config = {
    assertions = [
      {
        assertion = config.nixpkgs.overlays == [ ];
        message = "`nixpkgs.overlays` of the machine of a test is read-only: its packages are those that the test is made of.";
      }
    ];
    boot.kernel.sysctl."vm.panic_on_oom" = lib.mkDefault 2;
    system.build.vm = lib.mkForce (
      pkgs.writeText "vm-${config.networking.hostName}" (
        builtins.toJSON {
          system = "${config.system.build.toplevel}";
          inherit (config.services) journald timesyncd;
          hardware = removeAttrs config.virtualisation [ "vmVariant" ];
        }
      )
    );
    system.switch.enable = lib.mkDefault (config.specialisation != { });
  };
}
