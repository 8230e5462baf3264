{
  services.caddy = {
    enable = true;
    virtualHosts.":80".extraConfig = ''respond "hello"'';
  };
  networking.firewall.allowedTCPPorts = [
    80
    443
  ];
  system.stateVersion = "26.05";
}
