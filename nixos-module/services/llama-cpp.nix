# llama-server of llama.cpp: one model behind an API. Its data is the model, which has to be there before it starts.
{
  description = "llama-server, which serves the model `model.gguf` of its data folder";
  ports = [ 8080 ];
  data = [ "/models" ];
  gpu = {
    vram = "8G";
  };
  offload = {
    engine = "llama-server";
    url = "http://localhost:8080";
  };
  service = {
    health = {
      http = "http://localhost:8080/health";
      # It answers 503 while it loads the model.
      start_period = "5min";
    };
    limits.memory_max = "16G";
  };
  # By itself `pkgs.llama-cpp` runs models on the CPU alone, unless all of nixpkgs is built for CUDA. For other GPUs it is `pkgs.llama-cpp-rocm`
  # or `pkgs.llama-cpp-vulkan`: `services.nixmox.services.llama-cpp.system.services.llama-cpp.package`.
  guestWithGpu =
    { lib, pkgs, ... }:
    {
      services.llama-cpp.package = lib.mkDefault (pkgs.llama-cpp.override { cudaSupport = true; });
    };
  guest =
    { lib, ... }:
    {
      services.llama-cpp = {
        enable = true;
        host = "0.0.0.0";
        port = 8080;
        model = lib.mkDefault "/models/model.gguf";
      };
    };
}
