# Containers of the host's own configuration that a stack takes over (`adopt = true`).
{ config, lib, ... }:
let
  cfg = config.services.nixmox;
  adopted = lib.unique (
    lib.concatMap (stack: lib.attrNames (lib.filterAttrs (_: service: service.adopt) stack.services)) (
      lib.attrValues cfg.stacks
    )
  );
  here = lib.filter (name: config.containers ? ${name}) adopted;
in
{
  # A second declaration of `containers` adds to the submodule of each container that is there. A definition would make containers up.
  options.containers = lib.mkOption {
    type = lib.types.attrsOf (
      lib.types.submodule (
        { name, ... }:
        {
          # The agent starts it, after what it depends on: systemd at boot would come before every gate.
          config = lib.mkIf (cfg.enable && lib.elem name adopted) { autoStart = lib.mkForce false; };
        }
      )
    );
  };

  # Without `autoStart` NixOS restarts no container whose system changed. What names that system is read when the stacks are brought up,
  # so a change of it brings them up anew, and the agent restarts what is out of date, gates included.
  config.systemd.services.nixmox-stacks = lib.mkIf cfg.enable {
    restartTriggers = map (name: config.environment.etc."nixos-containers/${name}.conf".source) here;
  };
}
