# What runs models on the CPU alone has no budget of video memory, and so no `offload` either.
{
  services.nixmox.services = {
    llama-cpp.enable = true;
    ollama.enable = true;
  };
}
