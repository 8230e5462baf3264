# A job that makes the secrets that other ready services name, once: 32 random bytes each, readable by root alone. One that is there is
# left alone, so that a person may have written it.
{
  description = "the job that makes the secrets of the other ready services";
  data = [ "/secrets" ];
  service = {
    kind = "job";
    limits.memory_max = "256M";
  };
  guest =
    {
      config,
      lib,
      pkgs,
      ...
    }:
    {
      imports = [ ../job.nix ];
      options.nixmox.secrets = lib.mkOption {
        type = lib.types.listOf (lib.types.strMatching "[a-z0-9-]+");
        default = [ ];
        description = "The names of the secrets.";
      };
      config.nixmox.job = {
        description = "Make secrets";
        path = [ pkgs.coreutils ];
        script = ''
          umask 077
          for name in ${lib.escapeShellArgs config.nixmox.secrets}; do
            [ -s "/secrets/$name" ] && continue
            head -c 32 /dev/urandom | base64 --wrap=0 > "/secrets/.$name"
            sync "/secrets/.$name"
            mv "/secrets/.$name" "/secrets/$name"
            echo "made $name"
          done
        '';
      };
    };
}
