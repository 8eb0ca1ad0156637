//! The text of the `decode` functions.

use std::fmt::Write as _;

use anyhow::Result;

use super::emit::mentions;
use super::model::{Field, Message, Struct, Type};
use super::schema::Versions;
use super::sizes;

pub(crate) fn top_level(out: &mut String, message: &Message) -> Result<()> {
    writeln!(
        out,
        "/// Reads the message's body as `version` lays it out.
        ///
        /// # Errors
        /// A version that does not exist, or bytes that are not such a message.
        pub fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {{
        if !(Self::VERSION_MIN..=Self::VERSION_MAX).contains(&version) {{
            return Err(DecodeError::UnsupportedVersion {{ message: \"{}\", version }});
        }}",
        message.name
    )?;
    fields(out, message, &message.fields, true)?;
    out.push_str("}\n\n");
    Ok(())
}

pub(crate) fn nested(out: &mut String, message: &Message, nested: &Struct) -> Result<()> {
    out.push_str("fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {\n");
    let mut text = String::new();
    fields(&mut text, message, &nested.fields, false)?;
    if !mentions(&text, "version") {
        text = format!("let _ = version;\n{text}");
    }
    out.push_str(&text);
    out.push_str("}\n\n");
    Ok(())
}

fn fields(out: &mut String, message: &Message, fields: &[Field], top: bool) -> Result<()> {
    let mut text = String::new();
    for field in fields.iter().filter(|field| field.tag.is_none()) {
        let place = format!("m.{}", field.ident);
        let read = read(message, field, flex_of(message, field));
        match condition(field.versions, message.valid) {
            None => writeln!(text, "{place} = {read};")?,
            Some(condition) => writeln!(text, "if {condition} {{ {place} = {read}; }}")?,
        }
    }
    tags(&mut text, message, fields)?;
    let unit = fields.is_empty();
    if let Some(flex) = flex_binding(message, &text) {
        out.push_str(&flex);
    }
    let binding = if unit { "let m" } else { "let mut m" };
    // A message without fields reads nothing but, perhaps, its tags.
    if top && text.is_empty() {
        out.push_str("let _ = r;\n");
    }
    writeln!(out, "{binding} = Self::default();\n{text}Ok(m)")?;
    Ok(())
}

/// The binding of `flex` if `text` uses it.
pub(crate) fn flex_binding(message: &Message, text: &str) -> Option<String> {
    let used = text
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|word| word == "flex");
    let condition = condition(message.flexible, message.valid).unwrap_or_else(|| "true".to_owned());
    used.then(|| format!("let flex = {condition};\n"))
}

/// How a field's flexibility is written: by name where it depends on the version.
pub(crate) fn flex_of(message: &Message, field: &Field) -> &'static str {
    if !field.flexible || message.flexible.is_empty() {
        "false"
    } else if message.flexible.and(field.versions) == field.versions {
        "true"
    } else if message.flexible.and(field.versions).is_empty() {
        "false"
    } else {
        "flex"
    }
}

/// The condition under which `versions` holds, given that `valid` does; `None` if always.
pub(crate) fn condition(versions: Versions, valid: Versions) -> Option<String> {
    if versions.and(valid).is_empty() {
        return Some("false".to_owned());
    }
    let from = (versions.first > valid.first).then(|| format!("version >= {}", versions.first));
    let to = (versions.last < valid.last).then(|| format!("version <= {}", versions.last));
    match (from, to) {
        (None, None) => None,
        (Some(one), None) | (None, Some(one)) => Some(one),
        (Some(_), Some(_)) if versions.first == versions.last => Some(format!("version == {}", versions.first)),
        (Some(_), Some(_)) => Some(format!("({}..={}).contains(&version)", versions.first, versions.last)),
    }
}

/// Whether null is allowed, as an expression.
pub(crate) fn nullable_of(field: &Field) -> String {
    condition(field.nullable, field.versions).unwrap_or_else(|| "true".to_owned())
}

fn read(message: &Message, field: &Field, flex: &str) -> String {
    let nullable = nullable_of(field);
    let optional = field.is_option();
    match &field.kind {
        Type::Bool => "r.bool()?".to_owned(),
        Type::I8 => "r.i8()?".to_owned(),
        Type::I16 => "r.i16()?".to_owned(),
        Type::U16 => "r.u16()?".to_owned(),
        Type::I32 => "r.i32()?".to_owned(),
        Type::I64 => "r.i64()?".to_owned(),
        Type::F64 => "r.f64()?".to_owned(),
        Type::Uuid => "r.uuid()?".to_owned(),
        Type::Str if optional => format!("r.nullable_string({flex}, {nullable})?"),
        Type::Str => format!("r.string({flex})?"),
        Type::Bytes if optional => format!("r.nullable_bytes({flex}, {nullable})?"),
        Type::Bytes => format!("r.bytes({flex})?"),
        Type::Records if optional => format!("r.nullable_records({flex}, {nullable})?"),
        Type::Records => format!("r.records({flex})?"),
        Type::Struct(name) if optional => {
            format!("if r.struct_present({nullable})? {{ Some({name}::decode(r, version)?) }} else {{ None }}")
        }
        Type::Struct(name) => format!("{name}::decode(r, version)?"),
        Type::Array(item) => {
            let min = sizes::element_min(message, field, item);
            match &**item {
                Type::Struct(name) if optional => {
                    format!("r.nullable_structs({flex}, {nullable}, version, {min}, {name}::decode)?")
                }
                Type::Struct(name) => format!("r.structs({flex}, version, {min}, {name}::decode)?"),
                primitive if optional => format!("r.nullable_{}_array({flex}, {nullable})?", array_name(primitive)),
                primitive => format!("r.{}_array({flex})?", array_name(primitive)),
            }
        }
    }
}

pub(crate) fn array_name(kind: &Type) -> &'static str {
    match kind {
        Type::I8 => "i8",
        Type::I16 => "i16",
        Type::I32 => "i32",
        Type::I64 => "i64",
        Type::Uuid => "uuid",
        Type::Str => "string",
        // No definition has these; the generated code would not compile if one came.
        Type::Bool | Type::U16 | Type::F64 | Type::Bytes | Type::Records | Type::Struct(_) | Type::Array(_) => {
            "unsupported"
        }
    }
}

fn tags(out: &mut String, message: &Message, fields: &[Field]) -> Result<()> {
    if message.flexible.is_empty() {
        return Ok(());
    }
    let mut tagged: Vec<(u32, &Field)> = fields.iter().filter_map(|field| Some((field.tag?, field))).collect();
    tagged.sort_by_key(|(tag, _)| *tag);
    let mut text = String::new();
    if tagged.is_empty() {
        text.push_str("r.skip_tags()?;\n");
    } else {
        text.push_str(
            "let mut section = r.tag_section()?;\nwhile let Some(tag) = r.next_tag(&mut section)? {\nmatch tag.id {\n",
        );
        for (tag, field) in tagged {
            let guard = condition(field.versions, message.flexible)
                .map(|c| format!(" if {c}"))
                .unwrap_or_default();
            writeln!(
                text,
                "{tag}{guard} => m.{} = {},",
                field.ident,
                read(message, field, "true")
            )?;
        }
        text.push_str("_ => r.skip_tag(&mut section)?,\n}\nr.end_tag(tag)?;\n}\n");
    }
    if message.flexible == message.valid {
        out.push_str(&text);
    } else {
        writeln!(out, "if flex {{\n{text}}}")?;
    }
    Ok(())
}
