//! Message definitions resolved for code generation: types parsed, versions cut to the valid ones, Rust names.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::schema::{FieldSchema, Schema, Versions};

/// One message with at least one valid version.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) name: String,
    /// Rust module, and file name without `.rs`.
    pub(crate) module: String,
    pub(crate) kind: Kind,
    pub(crate) api_key: Option<i16>,
    pub(crate) listeners: Vec<String>,
    pub(crate) valid: Versions,
    pub(crate) flexible: Versions,
    pub(crate) latest_unstable: bool,
    pub(crate) fields: Vec<Field>,
    /// Every struct in the message, in order of appearance.
    pub(crate) structs: Vec<Struct>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Request,
    Response,
    Header,
    Data,
}

#[derive(Debug)]
pub(crate) struct Struct {
    pub(crate) name: String,
    pub(crate) fields: Vec<Field>,
}

#[derive(Debug)]
pub(crate) struct Field {
    /// Rust identifier, escaped where it is a keyword.
    pub(crate) ident: String,
    pub(crate) kind: Type,
    /// Within the valid versions of the message.
    pub(crate) versions: Versions,
    pub(crate) nullable: Versions,
    pub(crate) tag: Option<u32>,
    /// Cleared for the one field that never uses compact lengths (the client id of a request header).
    pub(crate) flexible: bool,
    pub(crate) ignorable: bool,
    pub(crate) default: Default,
    pub(crate) about: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Bool,
    I8,
    I16,
    U16,
    I32,
    I64,
    F64,
    Str,
    Uuid,
    Bytes,
    Records,
    Struct(String),
    Array(Box<Type>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Default {
    /// Zero, false, empty, or the struct's default.
    Empty,
    Null,
    True,
    Int(i64),
}

impl Field {
    /// True if the Rust type is an `Option`.
    pub(crate) fn is_option(&self) -> bool {
        !self.nullable.is_empty()
    }
}

/// Turns a definition into a message; `None` if it has no valid version any more.
pub(crate) fn resolve(schema: Schema) -> Result<Option<Message>> {
    let valid = schema.valid_versions;
    if valid.is_empty() {
        return Ok(None);
    }
    let flexible = schema
        .flexible_versions
        .context("flexibleVersions is missing")?
        .and(valid);
    let mut resolver = Resolver {
        valid,
        structs: Vec::new(),
    };
    for shared in schema.common_structs {
        let fields = resolver.fields(shared.fields)?;
        resolver.structs.push(Struct {
            name: shared.name,
            fields,
        });
    }
    let fields = resolver.fields(schema.fields)?;
    let structs = resolver.structs;
    let names: BTreeSet<&str> = structs.iter().map(|s| s.name.as_str()).collect();
    ensure!(names.len() == structs.len(), "two structs have the same name");
    let kind = match schema.kind.as_str() {
        "request" => Kind::Request,
        "response" => Kind::Response,
        "header" => Kind::Header,
        "data" => Kind::Data,
        other => bail!("unknown message type {other:?}"),
    };
    Ok(Some(Message {
        module: snake_case(&schema.name),
        name: schema.name,
        kind,
        api_key: schema.api_key,
        listeners: schema.listeners,
        valid,
        flexible,
        latest_unstable: schema.latest_version_unstable,
        fields,
        structs,
    }))
}

struct Resolver {
    valid: Versions,
    structs: Vec<Struct>,
}

impl Resolver {
    fn fields(&mut self, schemas: Vec<FieldSchema>) -> Result<Vec<Field>> {
        let mut fields = Vec::new();
        for schema in schemas {
            let name = schema.name.clone();
            if let Some(field) = self.field(schema).with_context(|| format!("field {name}"))? {
                fields.push(field);
            }
        }
        Ok(fields)
    }

    /// `None` for a field of versions that are gone.
    fn field(&mut self, schema: FieldSchema) -> Result<Option<Field>> {
        let versions = schema.versions.and(self.valid);
        if versions.is_empty() {
            return Ok(None);
        }
        let kind = parse_type(&schema.kind)?;
        let nullable = schema.nullable_versions.unwrap_or(Versions::NONE).and(versions);
        ensure!(
            schema.tag.is_some() == schema.tagged_versions.is_some(),
            "tag and taggedVersions must come together"
        );
        if let Some(tagged) = schema.tagged_versions {
            ensure!(
                tagged.and(self.valid) == versions,
                "a field that is tagged in some versions only"
            );
            ensure!(
                !matches!(kind, Type::Struct(_)) || nullable.is_empty(),
                "a nullable tagged struct"
            );
        }
        if let Some(overridden) = schema.flexible_versions {
            ensure!(overridden.is_empty(), "flexibleVersions of a field other than none");
        }
        if !schema.fields.is_empty() {
            let name = match &kind {
                Type::Struct(name) => name.clone(),
                Type::Array(item) => match &**item {
                    Type::Struct(name) => name.clone(),
                    _ => bail!("fields in an array of primitives"),
                },
                _ => bail!("fields in a primitive"),
            };
            let slot = self.structs.len();
            self.structs.push(Struct {
                name,
                fields: Vec::new(),
            });
            self.structs[slot].fields = self.fields(schema.fields)?;
        }
        Ok(Some(Field {
            ident: rust_ident(&schema.name),
            default: parse_default(schema.default.as_ref(), &kind, nullable, versions)?,
            kind,
            versions,
            nullable,
            tag: schema.tag,
            flexible: schema.flexible_versions.is_none(),
            ignorable: schema.ignorable,
            about: schema.about,
        }))
    }
}

fn parse_type(text: &str) -> Result<Type> {
    if let Some(item) = text.strip_prefix("[]") {
        return Ok(Type::Array(Box::new(parse_type(item)?)));
    }
    Ok(match text {
        "bool" => Type::Bool,
        "int8" => Type::I8,
        "int16" => Type::I16,
        "uint16" => Type::U16,
        "int32" => Type::I32,
        "int64" => Type::I64,
        "float64" => Type::F64,
        "string" => Type::Str,
        "uuid" => Type::Uuid,
        "bytes" => Type::Bytes,
        "records" => Type::Records,
        name if name.starts_with(|c: char| c.is_ascii_uppercase()) => Type::Struct(name.to_owned()),
        other => bail!("unknown type {other:?}"),
    })
}

fn parse_default(value: Option<&Value>, kind: &Type, nullable: Versions, versions: Versions) -> Result<Default> {
    // Kafka leaves record fields null unless set; ours are null where that is allowed.
    if value.is_none() && *kind == Type::Records && nullable == versions {
        return Ok(Default::Null);
    }
    let text = match value {
        None => return Ok(Default::Empty),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    if text == "null" {
        ensure!(
            nullable == versions,
            "default null for a field that is not always nullable"
        );
        return Ok(Default::Null);
    }
    match kind {
        Type::Bool => match text.to_ascii_lowercase().as_str() {
            "true" => Ok(Default::True),
            "false" | "" => Ok(Default::Empty),
            _ => bail!("default {text:?} of a bool"),
        },
        Type::I8 | Type::I16 | Type::U16 | Type::I32 | Type::I64 => {
            let value = match text.strip_prefix("0x") {
                Some(hex) => i64::from_str_radix(hex, 16)?,
                None => text.parse()?,
            };
            Ok(if value == 0 {
                Default::Empty
            } else {
                Default::Int(value)
            })
        }
        _ if text.is_empty() => Ok(Default::Empty),
        _ => bail!("default {text:?} of a {kind:?}"),
    }
}

/// `ThrottleTimeMs` becomes `throttle_time_ms`, `KRaftVersion` becomes `kraft_version`, `V3AndBelow` `v3_and_below`.
pub(crate) fn snake_case(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    let mut out = String::new();
    for (i, c) in chars.iter().enumerate() {
        let starts_word = c.is_ascii_uppercase()
            && i > 0
            && (!chars[i - 1].is_ascii_uppercase()
                || (i > 1 && chars.get(i + 1).is_some_and(char::is_ascii_lowercase)));
        if starts_word {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

fn rust_ident(name: &str) -> String {
    let ident = snake_case(name);
    match ident.as_str() {
        "type" | "match" | "as" | "in" | "ref" | "move" | "loop" | "use" | "where" | "final" => format!("r#{ident}"),
        _ => ident,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_snake_case() {
        for (name, expected) in [
            ("ThrottleTimeMs", "throttle_time_ms"),
            ("KRaftVersionFeature", "kraft_version_feature"),
            ("V3AndBelowTopics", "v3_and_below_topics"),
            ("Enable2Pc", "enable2_pc"),
            ("timeoutMs", "timeout_ms"),
            ("Type", "r#type"),
        ] {
            assert_eq!(rust_ident(name), expected);
        }
    }
}
