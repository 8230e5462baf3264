//! The text of an interface description, laid out for people: a field a line, its comment above it.
//!
//! zlink writes one too, with the comments between the fields of a line; `varlinkctl introspect` lays it out anew,
//! but not everybody who asks is `varlinkctl`.

use std::fmt::Write as _;

use zlink::idl::{Comment, CustomType, Field, Interface};

/// Returns an interface in Varlink's language, with a final line feed.
#[must_use]
pub fn description(interface: &Interface<'_>) -> String {
    let mut text = String::new();
    comments(&mut text, "", interface.comments());
    line(&mut text, format_args!("interface {}", interface.name()));
    for kind in interface.custom_types() {
        text.push('\n');
        match kind {
            CustomType::Object(object) => {
                comments(&mut text, "", object.comments());
                line(&mut text, format_args!("type {} {}", object.name(), fields(object.fields())));
            }
            CustomType::Enum(choice) => {
                comments(&mut text, "", choice.comments());
                line(&mut text, format_args!("type {} (", choice.name()));
                let mut variants = choice.variants().peekable();
                while let Some(variant) = variants.next() {
                    comments(&mut text, "\t", variant.comments());
                    let comma = if variants.peek().is_some() { "," } else { "" };
                    line(&mut text, format_args!("\t{}{comma}", variant.name()));
                }
                text.push_str(")\n");
            }
        }
    }
    for method in interface.methods() {
        text.push('\n');
        comments(&mut text, "", method.comments());
        let (inputs, outputs) = (fields(method.inputs()), fields(method.outputs()));
        line(&mut text, format_args!("method {}{inputs} -> {outputs}", method.name()));
    }
    for error in interface.errors() {
        text.push('\n');
        comments(&mut text, "", error.comments());
        line(&mut text, format_args!("error {} {}", error.name(), fields(error.fields())));
    }
    text
}

fn fields<'a>(fields: impl Iterator<Item = &'a Field<'a>>) -> String {
    let mut fields = fields.peekable();
    if fields.peek().is_none() {
        return "()".to_owned();
    }
    let mut text = "(\n".to_owned();
    while let Some(field) = fields.next() {
        comments(&mut text, "\t", field.comments());
        let comma = if fields.peek().is_some() { "," } else { "" };
        line(&mut text, format_args!("\t{}: {}{comma}", field.name(), field.ty()));
    }
    text.push(')');
    text
}

fn comments<'a>(text: &mut String, indent: &str, comments: impl Iterator<Item = &'a Comment<'a>>) {
    for comment in comments {
        line(text, format_args!("{indent}# {}", comment.content().trim()));
    }
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{content}");
}
