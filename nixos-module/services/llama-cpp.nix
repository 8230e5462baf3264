# llama-server of llama.cpp: one model behind an API, `model.gguf` among its data.
{
  description = "llama-server, which serves one GGUF model";
  ports = [ 8080 ];
  data = [ "/var/lib/llama-cpp" ];
  gpu = {
    devices = "all";
    vram = "8G";
  };
  service = {
    health = {
      http = "http://localhost:8080/health";
      # It answers 503 while it loads the model.
      start_period = "5min";
    };
    limits.memory_max = "16G";
  };
  guest =
    { lib, ... }:
    {
      services.llama-cpp = {
        enable = true;
        host = "0.0.0.0";
        port = 8080;
        model = lib.mkDefault "/var/lib/llama-cpp/model.gguf";
      };
    };
}
