# A firewall that drops what is forwarded, unless it is told.
{
  networking.nftables.enable = true;
  networking.firewall.filterForward = true;
}
