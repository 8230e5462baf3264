# Jupyter. Whoever knows its password runs programs in the container, so it has one that nobody chose.
{
  description = "Jupyter notebooks";
  ports = [ 8888 ];
  data = [ "/var/lib/jupyter" ];
  secrets.jupyter = [ "jupyter-password" ];
  gpu = {
    vram = "4G";
  };
  service = {
    health.http = "http://localhost:8888/login";
    limits = {
      memory_max = "8G";
      cpu_weight = 50;
    };
  };
  guest = {
    services.jupyter = {
      enable = true;
      ip = "0.0.0.0";
      port = 8888;
      notebookDir = "/var/lib/jupyter";
      # NixOS writes it between quotes into a program of Python: these end the text, and go on with what is evaluated at the start.
      password = ''" + __import__('jupyter_server.auth', fromlist=['passwd']).passwd(open('/run/credentials/jupyter.service/jupyter-password').read().strip()) + "'';
    };
  };
}
