# A host whose configuration declares a stack with all that a boot has to bring back: gates, a job, a guest of NixOS, and a container of
# the host's own that a stack takes over.
{ pkgs, ... }:
let
  system = import ../static-system.nix pkgs;
  web = system "web" "http=80";
  health.http = "http://localhost/";
in
{
  containers.old = {
    autoStart = true;
    config.system.stateVersion = "26.05";
  };

  services.nixmox.stacks.house.services = {
    ground = {
      system = web;
      inherit health;
    };
    job = {
      system = system "job" "exit=0@2";
      kind = "job";
      depends_on.ground = "healthy";
    };
    roof = {
      system = web;
      inherit health;
      depends_on.job = "completed";
    };
    nixos = {
      system = {
        environment.etc.round.text = "declared";
        system.stateVersion = "26.05";
      };
      depends_on.ground = "started";
    };
    passing = {
      system = web;
      ephemeral = true;
    };
    old = {
      adopt = true;
      depends_on.roof = "healthy";
    };
  };
}
