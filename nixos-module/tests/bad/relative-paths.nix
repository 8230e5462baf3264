# Expected: services.nixmox.stacks.cloud.services.web.mounts: `./conf` is relative. Write an absolute path, or "${./file}" for a file of the configuration.
# Expected: services.nixmox.stacks.cloud.services.web.mounts: `data` is relative.
# Expected: services.nixmox.stacks.cloud.services.web.credentials.key: `key` is relative.
{
  services.nixmox.stacks.cloud.services.web = {
    system = { };
    mounts = [
      "./conf:/etc/conf:ro"
      {
        source = "data";
        target = "/data";
      }
      "/srv:/srv"
    ];
    credentials.key = "key";
  };
}
