# Ollama: local language models behind an API. The models are its data.
{
  description = "Ollama, which serves local language models";
  ports = [ 11434 ];
  data = [ "/var/lib/ollama" ];
  gpu = {
    devices = "all";
    vram = "8G";
  };
  service = {
    health = {
      http = "http://localhost:11434/api/version";
      start_period = "2min";
    };
    limits.memory_max = "16G";
    offload.engine = "ollama";
  };
  guest = {
    services.ollama = {
      enable = true;
      host = "0.0.0.0";
      port = 11434;
      # One of its own, since the folder is a mount: that of a dynamic user is a link.
      user = "ollama";
      home = "/var/lib/ollama";
    };
  };
}
