//! The contract as text: a change of the interface or of a message shows here as a difference of a golden file.

use std::collections::BTreeSet;

use nixmox_api::{DESCRIPTION, description};
use zlink::idl::{CustomType, Type};

#[test]
fn the_interface_is_as_the_golden_file_has_it() {
    insta::assert_snapshot!("io.nixmox.Agent.varlink", description(DESCRIPTION));
}

#[test]
fn every_type_that_the_interface_uses_is_described_once() {
    let described: Vec<&str> = DESCRIPTION.custom_types().map(|kind| kind.name().as_str()).collect();
    let unique: BTreeSet<&str> = described.iter().copied().collect();
    assert_eq!(unique.len(), described.len(), "a type is there twice: {described:?}");

    let mut used = BTreeSet::new();
    for method in DESCRIPTION.methods() {
        method.inputs().chain(method.outputs()).for_each(|parameter| collect(parameter.ty(), &mut used));
    }
    for kind in DESCRIPTION.custom_types() {
        match kind {
            CustomType::Object(object) => object.fields().for_each(|field| collect(field.ty(), &mut used)),
            CustomType::Enum(_) => {}
        }
    }
    let missing: Vec<&String> = used.iter().filter(|name| !unique.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "used and not described: {missing:?}");
}

#[test]
fn no_two_things_of_the_interface_have_one_name() {
    // Types, methods and errors share a name space (varlink.org, "Interface Definition").
    let types = DESCRIPTION.custom_types().map(|kind| kind.name().to_string());
    let methods = DESCRIPTION.methods().map(|method| method.name().to_string());
    let errors = DESCRIPTION.errors().map(|error| error.name().to_string());
    let mut seen = BTreeSet::new();
    let twice: Vec<String> = types.chain(methods).chain(errors).filter(|name| !seen.insert(name.clone())).collect();
    assert!(twice.is_empty(), "systemd refuses an interface with two of {twice:?}");
}

fn collect(kind: &Type<'_>, used: &mut BTreeSet<String>) {
    match kind {
        Type::Custom(name) => {
            used.insert(name.to_string());
        }
        Type::Optional(inner) | Type::Array(inner) | Type::Map(inner) => collect(inner.inner(), used),
        _ => {}
    }
}
