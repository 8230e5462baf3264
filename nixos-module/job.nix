# A guest that does one thing and ends with how that went, for services of the kind `job`: `nixmox.job`.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.nixmox.job;
in
{
  options.nixmox.job = {
    description = mkOption {
      type = types.nonEmptyStr;
      description = "What it does, as the description of a unit.";
    };
    path = mkOption {
      type = types.listOf types.package;
      default = [ ];
      description = "Packages whose programs the script finds.";
    };
    script = mkOption {
      type = types.lines;
      description = "What it does, a shell script that ends at the first failure.";
    };
  };

  config.systemd.services.nixmox-job = {
    inherit (cfg) description path;
    wantedBy = [ "multi-user.target" ];
    wants = [ "network-online.target" ];
    after = [ "network-online.target" ];
    unitConfig = {
      SuccessAction = "exit";
      SuccessActionExitStatus = 0;
      FailureAction = "exit";
      FailureActionExitStatus = 1;
    };
    # A container that ends while it starts counts as one that did not start, so the start is over first.
    script = ''
      ${lib.getExe' pkgs.systemd "systemctl"} is-system-running --wait > /dev/null || true
      set -eu
      ${cfg.script}
    '';
    serviceConfig.Type = "exec";
  };
}
