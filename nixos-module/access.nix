# Who may look, and who may change: the groups by which the agent knows its callers.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.services.nixmox;
  users =
    group: description:
    mkOption {
      type = types.listOf types.nonEmptyStr;
      default = [ ];
      example = [ "anna" ];
      description = "${description} They are put into the group `${group}`.";
    };
in
{
  options.services.nixmox = {
    operators = users "nixmox-operator" ''
      Users who may change what runs. **An operator equals root on the host**, since an operator can bind any path of it into a container.
    '';
    observers = users "nixmox" "Users who may look: status, plans, logs, events, figures.";
  };

  config = lib.mkIf cfg.enable {
    users.groups = {
      nixmox.members = cfg.observers;
      nixmox-operator.members = cfg.operators;
    };
  };
}
