{
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { nixpkgs, ... }:
    let
      # A guest is an ordinary NixOS system; its toplevel is what `system` names.
      guest =
        module:
        (nixpkgs.lib.nixosSystem {
          system = "x86_64-linux";
          modules = [
            ./guest.nix
            module
          ];
        }).config.system.build.toplevel;
    in
    {
      packages.x86_64-linux = {
        postgres = guest { services.postgresql.enable = true; };
        caddy = guest {
          services.caddy = {
            enable = true;
            virtualHosts.":80".extraConfig = ''respond "hello"'';
          };
          networking.firewall.allowedTCPPorts = [ 80 ];
        };
      };
    };
}
