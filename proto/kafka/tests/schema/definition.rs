//! Kafka's message definitions, read from `messages/*.json` for interpretation.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

/// One message.
#[derive(Debug)]
pub struct Definition {
    pub name: String,
    pub valid: Range,
    pub flexible: Range,
    pub fields: Vec<Field>,
    pub structs: BTreeMap<String, Vec<Field>>,
}

/// Inclusive; empty if it ends before it begins.
#[derive(Clone, Copy, Debug)]
pub struct Range(pub i16, pub i16);

impl Range {
    pub fn has(self, version: i16) -> bool {
        self.0 <= version && version <= self.1
    }
}

#[derive(Clone, Debug)]
pub struct Field {
    pub name: String,
    pub kind: String,
    pub versions: Range,
    pub nullable: Range,
    pub tag: Option<u32>,
    pub never_flexible: bool,
    pub default: Option<String>,
}

/// Every message with a version, by name.
pub fn load_all() -> BTreeMap<String, Definition> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("messages");
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(dir).expect("definitions") {
        let path = entry.expect("entry").path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text: String = std::fs::read_to_string(&path)
            .expect("readable")
            .lines()
            .map(|line| if line.trim_start().starts_with("//") { "" } else { line })
            .collect::<Vec<_>>()
            .join("\n");
        let value: Value = serde_json::from_str(&text).expect("json with whole-line comments");
        if value["validVersions"] != "none" {
            let definition = definition(&value);
            all.insert(definition.name.clone(), definition);
        }
    }
    all
}

fn definition(value: &Value) -> Definition {
    let mut structs = BTreeMap::new();
    for shared in value["commonStructs"].as_array().into_iter().flatten() {
        let fields = fields(shared, &mut structs);
        structs.insert(text(shared, "name"), fields);
    }
    let fields = fields(value, &mut structs);
    Definition {
        name: text(value, "name"),
        valid: range(value.get("validVersions")),
        flexible: range(value.get("flexibleVersions")),
        fields,
        structs,
    }
}

fn fields(owner: &Value, structs: &mut BTreeMap<String, Vec<Field>>) -> Vec<Field> {
    let list = owner["fields"].as_array().expect("fields");
    list.iter().map(|value| field(value, structs)).collect()
}

fn field(value: &Value, structs: &mut BTreeMap<String, Vec<Field>>) -> Field {
    let kind = text(value, "type");
    if value.get("fields").is_some() {
        let nested = fields(value, structs);
        structs.insert(kind.trim_start_matches("[]").to_owned(), nested);
    }
    Field {
        name: text(value, "name"),
        versions: range(value.get("versions")),
        nullable: range(value.get("nullableVersions")),
        tag: value
            .get("tag")
            .and_then(Value::as_u64)
            .map(|tag| u32::try_from(tag).expect("small")),
        never_flexible: value.get("flexibleVersions").is_some(),
        default: value.get("default").map(|default| match default {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }),
        kind,
    }
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().expect("text").to_owned()
}

fn range(value: Option<&Value>) -> Range {
    let Some(text) = value.and_then(Value::as_str) else {
        return Range(0, -1);
    };
    if text == "none" {
        return Range(0, -1);
    }
    if let Some(first) = text.strip_suffix('+') {
        return Range(first.parse().expect("version"), i16::MAX);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Range(first.parse().expect("version"), last.parse().expect("version"))
}
