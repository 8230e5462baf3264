# The host: who may change what runs in its containers.
{
  networking.hostName = "homelab";
  nixpkgs.hostPlatform = "x86_64-linux";
  system.stateVersion = "26.05";

  users.users.anna.isNormalUser = true;
  services.nixmox = {
    enable = true;
    operators = [ "anna" ];
  };
}
