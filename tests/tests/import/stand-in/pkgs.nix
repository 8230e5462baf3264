# Packages by name that evaluate and cannot be built.
{ lib }:
let
  names = [
    "mariadb"
    "ollama-cuda"
    "ollama-rocm"
    "postgresql_14"
    "postgresql_15"
    "postgresql_16"
    "postgresql_17"
    "postgresql_18"
    "prometheus"
    "valkey"
  ];
  package =
    name:
    derivation {
      inherit name;
      system = "x86_64-linux";
      builder = "/bin/false";
    }
    // {
      meta.mainProgram = name;
      pname = name;
    };
in
lib.genAttrs names package
