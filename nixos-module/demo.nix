# The machine of `nix run .#demo`: logged in as an operator, with one stack whose page answers on port 8080.
{
  networking.hostName = "demo";
  system.stateVersion = "26.05";

  users.users.demo = {
    isNormalUser = true;
    initialPassword = "";
  };
  services.getty = {
    autologinUser = "demo";
    helpLine = "nixmoxctl status -w shows the stack; curl localhost:8080 fetches its page. Ctrl-A X ends the machine.";
  };
  virtualisation.vmVariant.virtualisation = {
    graphics = false;
    memorySize = 2048;
  };

  services.nixmox = {
    enable = true;
    operators = [ "demo" ];
    stacks.demo.services = {
      postgres = {
        system = {
          services.postgresql.enable = true;
          system.stateVersion = "26.05";
        };
        health.unit = "postgresql.service";
        limits.memory_max = "512M";
      };
      caddy = {
        system = {
          services.caddy = {
            enable = true;
            virtualHosts.":80".extraConfig = ''respond "hello from a container"'';
          };
          networking.firewall.allowedTCPPorts = [ 80 ];
          system.stateVersion = "26.05";
        };
        depends_on.postgres = "healthy";
        network.ports = [ "8080:80" ];
        health.http = "http://localhost/";
      };
    };
  };
}
