# A job that copies container images to the host, for whatever runs them there: `nixmox.images` in `system` names them. One that is
# there already is looked at again, so that a tag that moved is followed.
{
  description = "the job that pulls container images";
  data = [ "/images" ];
  service = {
    kind = "job";
    limits = {
      memory_max = "1G";
      io_weight = 50;
    };
    restart = {
      policy = "on-failure";
      delay = "1min";
      attempts_max = 10;
    };
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
      options.nixmox.images = lib.mkOption {
        type = lib.types.attrsOf lib.types.nonEmptyStr;
        default = { };
        example = {
          whoami = "docker.io/traefik/whoami:v1.11";
        };
        description = "References of images, by the names of their archives below `/images`.";
      };
      config.nixmox.job = {
        description = "Pull container images";
        path = [
          pkgs.coreutils
          pkgs.skopeo
        ];
        script = lib.concatLines (
          lib.mapAttrsToList (name: reference: ''
            skopeo copy --insecure-policy docker://${lib.escapeShellArg reference} oci-archive:/images/.${name}.tar
            mv /images/.${name}.tar /images/${name}.tar
          '') config.nixmox.images
        );
      };
      config.assertions = map (name: {
        assertion = builtins.match "[a-zA-Z0-9_-]+" name != null;
        message = "nixmox.images: `${name}` names no archive: letters, digits, `_` and `-` do";
      }) (lib.attrNames config.nixmox.images);
    };
}
