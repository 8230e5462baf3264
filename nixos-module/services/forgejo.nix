# Forgejo with a database of its own in its data. `git` over SSH is left to whoever publishes a port for it.
{
  description = "Forgejo, a home for git repositories; `nixmoxctl exec -u forgejo forgejo -- forgejo --work-path /var/lib/forgejo admin user create --admin --username NAME --email ADDRESS --random-password` makes its first user";
  ports = [ 3000 ];
  data = [ "/var/lib/forgejo" ];
  service = {
    health = {
      http = "http://localhost:3000/api/healthz";
      start_period = "2min";
    };
    limits.memory_max = "2G";
  };
  guest =
    { config, lib, ... }:
    {
      # For who makes users: the module gives the program to its unit alone.
      environment.systemPackages = [ config.services.forgejo.package ];
      services.forgejo = {
        enable = true;
        database.type = lib.mkDefault "sqlite3";
        settings = {
          server = {
            HTTP_ADDR = "0.0.0.0";
            HTTP_PORT = 3000;
            DISABLE_SSH = lib.mkDefault true;
          };
          # Whoever comes first would be its administrator.
          service.DISABLE_REGISTRATION = lib.mkDefault true;
        };
      };
    };
}
