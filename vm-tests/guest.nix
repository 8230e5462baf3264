# The static guest of the scenarios, `tests/guest`. Called with `pkgsStatic`: nothing of a C library may have to lie beside it.
{ callPackage }:
(callPackage ../nixos-module/package.nix { }).overrideAttrs (_: {
  pname = "nixmox-test-guest";
  cargoBuildFlags = [ "--package=nixmox-test-guest" ];
  doCheck = false;
  # What systems link to as their init, by the name that `image/static-guest` has for it. NixOS's template has its shell read an init, which
  # is `$1` there, and a shell reads no program. How the guest is to behave stands beside the path that it is called by.
  postInstall = ''
    mv "$out/bin/nixmox-test-guest" "$out/bin/program"
    echo "exec -a \"\$1\" $out/bin/program" > "$out/bin/guest"
  '';
})
