//! The text of the `encode` functions.

use std::fmt::Write as _;

use anyhow::Result;

use super::decode::{array_name, condition, flex_binding, flex_of, nullable_of};
use super::emit::{int_literal, mentions};
use super::model::{Default, Field, Message, Struct, Type};
use super::schema::Versions;

pub(crate) fn top_level(out: &mut String, message: &Message) -> Result<()> {
    writeln!(
        out,
        "/// Writes the message's body as `version` lays it out.
        ///
        /// # Errors
        /// A version that does not exist, a field that is set but that this version cannot carry, null where it is
        /// not allowed, or a value that is too long.
        pub fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {{
        if !(Self::VERSION_MIN..=Self::VERSION_MAX).contains(&version) {{
            return Err(EncodeError::UnsupportedVersion {{ message: \"{}\", version }});
        }}",
        message.name
    )?;
    let text = fields(message, &message.name, &message.fields)?;
    if text.is_empty() {
        out.push_str("let _ = w;\n");
    }
    out.push_str(&text);
    out.push_str("Ok(())\n}\n");
    Ok(())
}

pub(crate) fn nested(out: &mut String, message: &Message, nested: &Struct) -> Result<()> {
    out.push_str("fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {\n");
    let text = fields(message, &nested.name, &nested.fields)?;
    if !mentions(&text, "version") {
        out.push_str("let _ = version;\n");
    }
    out.push_str(&text);
    out.push_str("Ok(())\n}\n");
    Ok(())
}

fn fields(message: &Message, owner: &str, fields: &[Field]) -> Result<String> {
    let mut text = String::new();
    for field in fields.iter().filter(|field| field.tag.is_none()) {
        let write = write(field, owner, flex_of(message, field), "w");
        let refuse = refuse(field, owner);
        match (condition(field.versions, message.valid), refuse) {
            (None, _) => writeln!(text, "{write}")?,
            (Some(condition), None) => writeln!(text, "if {condition} {{ {write} }}")?,
            (Some(condition), Some(refuse)) => writeln!(text, "if {condition} {{ {write} }} else {refuse}")?,
        }
    }
    tags(&mut text, message, owner, fields)?;
    Ok(match flex_binding(message, &text) {
        Some(flex) => flex + &text,
        None => text,
    })
}

/// The refusal of a field that is set where the version lacks it; `None` if Kafka says it may be dropped.
fn refuse(field: &Field, owner: &str) -> Option<String> {
    (!field.ignorable).then(|| format!("if {} {{ {} }}", is_set(field), refusal(field, owner)))
}

fn refusal(field: &Field, owner: &str) -> String {
    format!(
        "return Err(EncodeError::UnsupportedField {{ field: \"{}\", version }});",
        full_name(field, owner)
    )
}

/// The condition under which `versions` does not hold, given that `valid` does; `None` if it always holds.
fn outside(versions: Versions, valid: Versions) -> Option<String> {
    match (versions.first > valid.first, versions.last < valid.last) {
        (false, false) => None,
        (true, false) => Some(format!("version < {}", versions.first)),
        (false, true) => Some(format!("version > {}", versions.last)),
        (true, true) => Some(format!("!({}..={}).contains(&version)", versions.first, versions.last)),
    }
}

fn full_name(field: &Field, owner: &str) -> String {
    format!("{owner}.{}", field.ident.trim_start_matches("r#"))
}

/// Whether the field differs from its default.
fn is_set(field: &Field) -> String {
    let place = format!("self.{}", field.ident);
    match (&field.default, &field.kind) {
        (Default::Null, _) => format!("{place}.is_some()"),
        (Default::True, _) => format!("!{place}"),
        (Default::Int(value), _) => format!("{place} != {}", int_literal(*value)),
        (Default::Empty, Type::Bool) => place,
        (Default::Empty, Type::I8 | Type::I16 | Type::U16 | Type::I32 | Type::I64) => format!("{place} != 0"),
        (Default::Empty, Type::F64) => format!("{place} != 0.0"),
        (Default::Empty, Type::Uuid) => format!("{place} != Uuid::ZERO"),
        (Default::Empty, Type::Struct(name)) if field.is_option() => format!("{place} != Some({name}::default())"),
        (Default::Empty, Type::Struct(name)) => format!("{place} != {name}::default()"),
        (Default::Empty, _) if field.is_option() => {
            format!("{place}.as_ref().is_none_or(|value| !value.is_empty())")
        }
        (Default::Empty, _) => format!("!{place}.is_empty()"),
    }
}

fn write(field: &Field, owner: &str, flex: &str, w: &str) -> String {
    let place = format!("self.{}", field.ident);
    let nullable = nullable_of(field);
    let name = full_name(field, owner);
    let optional = field.is_option();
    let nullable_call =
        |method: &str| format!("{w}.nullable_{method}({flex}, {nullable}, {place}.as_ref(), \"{name}\")?;");
    match &field.kind {
        Type::Bool => format!("{w}.bool({place});"),
        Type::I8 => format!("{w}.i8({place});"),
        Type::I16 => format!("{w}.i16({place});"),
        Type::U16 => format!("{w}.u16({place});"),
        Type::I32 => format!("{w}.i32({place});"),
        Type::I64 => format!("{w}.i64({place});"),
        Type::F64 => format!("{w}.f64({place});"),
        Type::Uuid => format!("{w}.uuid({place});"),
        Type::Str if optional => nullable_call("string"),
        Type::Str => format!("{w}.string({flex}, &{place})?;"),
        Type::Bytes if optional => nullable_call("bytes"),
        Type::Bytes => format!("{w}.bytes({flex}, &{place})?;"),
        Type::Records if optional => nullable_call("records"),
        Type::Records => format!("{w}.records({flex}, &{place})?;"),
        Type::Struct(_) if optional => format!(
            "{w}.struct_marker({nullable}, {place}.is_some(), \"{name}\")?;
            if let Some(value) = &{place} {{ value.encode({w}, version)?; }}"
        ),
        Type::Struct(_) => format!("{place}.encode({w}, version)?;"),
        Type::Array(item) => {
            let call = |value: &str| match &**item {
                Type::Struct(struct_name) => format!("{w}.structs({flex}, version, {value}, {struct_name}::encode)?"),
                primitive => format!("{w}.{}_array({flex}, {value})?", array_name(primitive)),
            };
            if optional {
                format!(
                    "match &{place} {{ Some(value) => {}, None => {w}.null_array({flex}, {nullable}, \"{name}\")? }}",
                    call("value")
                )
            } else {
                format!("{};", call(&format!("&{place}")))
            }
        }
    }
}

fn tags(out: &mut String, message: &Message, owner: &str, fields: &[Field]) -> Result<()> {
    if message.flexible.is_empty() {
        return Ok(());
    }
    let mut tagged: Vec<(u32, &Field)> = fields.iter().filter_map(|field| Some((field.tag?, field))).collect();
    tagged.sort_by_key(|(tag, _)| *tag);
    let mut text = String::new();
    if tagged.is_empty() {
        text.push_str("w.no_tags();\n");
    } else {
        text.push_str("let mut tags = TagWriter::default();\n");
        for (tag, field) in &tagged {
            let set = is_set(field);
            let set = match condition(field.versions, message.flexible) {
                Some(condition) => format!("{condition} && {set}"),
                None => set,
            };
            let write = write(field, owner, "true", "t");
            writeln!(text, "if {set} {{ let t = tags.field({tag}); {write} }}")?;
        }
        text.push_str("w.tags(tags)?;\n");
    }
    if message.flexible == message.valid {
        out.push_str(&text);
    } else {
        writeln!(out, "if flex {{\n{text}}}")?;
    }
    // Written above where the version has it.
    for (_, field) in tagged.iter().filter(|(_, field)| !field.ignorable) {
        if let Some(outside) = outside(field.versions, message.valid) {
            let refusal = refusal(field, owner);
            writeln!(out, "if {outside} && {} {{ {refusal} }}", is_set(field))?;
        }
    }
    Ok(())
}
