//! The fewest bytes a value can take on the wire, which is what bounds the arrays a peer may announce.

use super::model::{Field, Message, Type};

/// Bytes of one element of `item` in an array that exists in `versions` of `field`: the minimum over them, at least 1.
pub(crate) fn element_min(message: &Message, field: &Field, item: &Type) -> usize {
    let smallest = field
        .versions
        .iter()
        .map(|version| type_min(message, item, version, field.flexible))
        .min();
    smallest.unwrap_or(1).max(1)
}

fn type_min(message: &Message, kind: &Type, version: i16, may_flex: bool) -> usize {
    let flex = may_flex && message.flexible.contains(version);
    match kind {
        Type::Bool | Type::I8 => 1,
        Type::I16 | Type::U16 => 2,
        Type::I32 => 4,
        Type::I64 | Type::F64 => 8,
        Type::Uuid => 16,
        Type::Str => {
            if flex {
                1
            } else {
                2
            }
        }
        Type::Bytes | Type::Records | Type::Array(_) => {
            if flex {
                1
            } else {
                4
            }
        }
        Type::Struct(name) => struct_min(message, name, version),
    }
}

fn struct_min(message: &Message, name: &str, version: i16) -> usize {
    let tags = usize::from(message.flexible.contains(version));
    let found = message.structs.iter().find(|candidate| candidate.name == name);
    let fields = found.map_or(&[][..], |found| &found.fields);
    let present = fields
        .iter()
        .filter(|field| field.versions.contains(version) && field.tag.is_none());
    let sizes = present.map(|field| {
        if field.is_option() && matches!(field.kind, Type::Struct(_)) {
            return 1;
        }
        type_min(message, &field.kind, version, field.flexible)
    });
    sizes.sum::<usize>() + tags
}
