//! What NixMox decides.
