# Expected: services.nixmox.stacks.b.services.two.network.ports: 80/tcp is published by services.nixmox.stacks.a.services.one too.
# Expected: services.nixmox.stacks.b.services.two.network.ports: 127.0.0.1:443/tcp is published by services.nixmox.stacks.a.services.one too.
{
  services.nixmox.stacks = {
    a.services.one = {
      system = { };
      network.ports = [
        "80:8080"
        "443"
        "127.0.0.1:53:53/udp"
      ];
    };
    b.services.two = {
      system = { };
      network.ports = [
        80
        "127.0.0.1:443:443"
        # Another address, another protocol: other places.
        "127.0.0.2:53:53/udp"
        "443/udp"
      ];
    };
  };
}
