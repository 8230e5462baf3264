# Ollama: local language models behind an API. The models are its data.
{
  description = "Ollama, which serves local language models";
  ports = [ 11434 ];
  data = [ "/var/lib/ollama" ];
  gpu = {
    vram = "8G";
  };
  offload = {
    engine = "ollama";
  };
  service = {
    health = {
      http = "http://localhost:11434/api/version";
      start_period = "2min";
    };
    limits.memory_max = "16G";
  };
  # `pkgs.ollama` runs models on the CPU alone, and a model there makes the service unhealthy. For GPUs of others than NVIDIA it is another
  # one: `services.nixmox.services.ollama.system.services.ollama.package`.
  guestWithGpu =
    { lib, pkgs, ... }:
    {
      services.ollama.package = lib.mkDefault pkgs.ollama-cuda;
    };
  guest =
    { lib, ... }:
    {
      services.ollama = {
        enable = true;
        host = "0.0.0.0";
        port = 11434;
        user = "ollama";
        home = "/var/lib/ollama";
      };
      # The folder is a mount, which systemd cannot move to where those of dynamic users lie (`StateDirectory=`, systemd.exec(5)).
      systemd.services.ollama.serviceConfig.DynamicUser = lib.mkForce false;
    };
}
