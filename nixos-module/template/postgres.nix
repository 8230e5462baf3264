{
  services.postgresql.enable = true;
  networking.firewall.allowedTCPPorts = [ 5432 ];
  system.stateVersion = "26.05";
}
