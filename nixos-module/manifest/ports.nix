# Published ports as they are written: `80`, `8080:80`, `443/udp`, `127.0.0.1:2019:2019`.
{ lib }:
let
  parts = builtins.match "(([0-9]+[.][0-9.]+):)?(([0-9]+):)?([0-9]+)(/(tcp|udp))?";
  at =
    index: default: list:
    if lib.elemAt list index == null then default else lib.elemAt list index;
in
rec {
  # What of the host a port takes.
  parse =
    port:
    let
      found = parts (toString port);
      inside = lib.elemAt found 4;
    in
    {
      address = at 1 null found;
      port = at 3 inside found;
      protocol = at 6 "tcp" found;
    };

  # Whether two of them are the same place; without an address it is every one.
  collide =
    a: b:
    a.port == b.port
    && a.protocol == b.protocol
    && (a.address == null || b.address == null || a.address == b.address);

  show =
    port:
    lib.optionalString (port.address != null) "${port.address}:" + "${port.port}/${port.protocol}";
}
