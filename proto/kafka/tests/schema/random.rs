//! Random wire bytes of any message and version, by interpretation of its definition.
//!
//! The bytes are canonical: what Kafka itself would write. Each length field's place is noted for sweeps.

use super::definition::{Definition, Field};

/// A small generator of random numbers (splitmix64): the same seed, the same bytes, on every machine.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `n`.
    pub fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(n).expect("small")).expect("small")
    }

    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

/// How a length field is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LengthKind {
    /// 16 bits, of a string.
    Short,
    /// 32 bits, of bytes or an array.
    Int,
    /// Variable, plus one.
    Compact,
    /// Variable: number of tagged fields, tag, or size of a tagged field.
    Plain,
}

/// Where a length field lies.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    pub at: usize,
    pub bytes: usize,
    pub kind: LengthKind,
}

/// A random message.
pub struct Sample {
    pub bytes: Vec<u8>,
    pub marks: Vec<Mark>,
}

/// A random message body of `version`. `richness` 0 makes a message of defaults and nulls where possible.
pub fn sample(definition: &Definition, version: i16, rng: &mut Rng, richness: usize) -> Sample {
    let mut generator = Generator {
        definition,
        version,
        rng,
        richness,
        out: Vec::new(),
        marks: Vec::new(),
    };
    generator.fields(&definition.fields);
    Sample {
        bytes: generator.out,
        marks: generator.marks,
    }
}

struct Generator<'a> {
    definition: &'a Definition,
    version: i16,
    rng: &'a mut Rng,
    richness: usize,
    out: Vec<u8>,
    marks: Vec<Mark>,
}

impl<'a> Generator<'a> {
    fn flex(&self, field: &Field) -> bool {
        self.definition.flexible.has(self.version) && !field.never_flexible
    }

    fn fields(&mut self, fields: &'a [Field]) {
        for field in fields {
            if field.versions.has(self.version) && field.tag.is_none() {
                self.field(field);
            }
        }
        if self.definition.flexible.has(self.version) {
            self.tags(fields);
        }
    }

    fn tags(&mut self, fields: &'a [Field]) {
        let mut tagged: Vec<&Field> = fields
            .iter()
            .filter(|field| field.tag.is_some() && field.versions.has(self.version))
            .collect();
        tagged.sort_by_key(|field| field.tag);
        let mut present = Vec::new();
        for field in tagged {
            if self.richness > 0 && self.rng.below(2) == 0 {
                let outer = (std::mem::take(&mut self.out), std::mem::take(&mut self.marks));
                // Kafka leaves out a tagged field that is at its default.
                for _ in 0..100 {
                    self.out.clear();
                    self.marks.clear();
                    self.field(field);
                    if self.out != self.default_bytes(field) {
                        break;
                    }
                }
                let value = std::mem::replace(&mut self.out, outer.0);
                let marks = std::mem::replace(&mut self.marks, outer.1);
                if value != self.default_bytes(field) {
                    present.push((field.tag.expect("tagged"), value, marks));
                }
            }
        }
        self.uvarint(u32::try_from(present.len()).expect("few"));
        for (tag, value, marks) in present {
            self.uvarint(tag);
            self.uvarint(u32::try_from(value.len()).expect("small"));
            let base = self.out.len();
            self.marks.extend(marks.into_iter().map(|mark| Mark {
                at: mark.at + base,
                ..mark
            }));
            self.out.extend(value);
        }
    }

    fn field(&mut self, field: &'a Field) {
        let nullable = field.nullable.has(self.version);
        let null = nullable && (self.richness == 0 || self.rng.below(4) == 0);
        let flex = self.flex(field);
        if let Some(item) = field.kind.strip_prefix("[]") {
            let count = if null {
                None
            } else {
                Some(self.rng.below(self.richness + 1))
            };
            self.length(flex, false, count);
            for _ in 0..count.unwrap_or(0) {
                self.value(item, flex, false, false);
            }
        } else {
            self.value(&field.kind, flex, nullable, null);
        }
    }

    fn value(&mut self, kind: &str, flex: bool, nullable: bool, null: bool) {
        match kind {
            "bool" => self.out.push(u8::from(self.rng.below(2) == 1)),
            "int8" => self.int(1),
            "int16" | "uint16" => self.int(2),
            "int32" => self.int(4),
            "int64" => self.int(8),
            "float64" => {
                let whole = i32::try_from(self.rng.below(2_000_000)).expect("small");
                self.out.extend((f64::from(whole) / 8.0 - 1000.0).to_be_bytes());
            }
            "uuid" => {
                let id = if self.rng.below(4) == 0 {
                    vec![0; 16]
                } else {
                    self.rng.bytes(16)
                };
                self.out.extend(id);
            }
            "string" => {
                let text = self.text();
                self.length(flex, true, (!null).then_some(text.len()));
                self.out.extend(if null { Vec::new() } else { text });
            }
            "bytes" | "records" => {
                let n = self.rng.below(4 * self.richness + 1);
                let bytes = if null { Vec::new() } else { self.rng.bytes(n) };
                self.length(flex, false, (!null).then_some(bytes.len()));
                self.out.extend(bytes);
            }
            name => {
                if nullable {
                    self.out.push(if null { 0xff } else { 1 });
                }
                if !null {
                    let definition = self.definition;
                    self.fields(&definition.structs[name]);
                }
            }
        }
    }

    /// Small numbers as often as any.
    fn int(&mut self, bytes: usize) {
        let value = if self.rng.below(2) == 0 {
            self.rng.next()
        } else {
            self.rng.next() % 5
        };
        self.out.extend(&value.to_be_bytes()[8 - bytes..]);
    }

    fn text(&mut self) -> Vec<u8> {
        const ALPHABET: [&str; 12] = ["a", "B", "-", "0", "z", "é", "ß", "漢", "😀", "\"", "\\", " "];
        let n = self.rng.below(3 * self.richness + 1);
        (0..n)
            .flat_map(|_| ALPHABET[self.rng.below(ALPHABET.len())].bytes())
            .collect()
    }

    fn length(&mut self, flex: bool, string: bool, length: Option<usize>) {
        let at = self.out.len();
        let kind = if flex {
            let raw = length.map_or(0, |length| u32::try_from(length).expect("small") + 1);
            put_uvarint(&mut self.out, raw);
            LengthKind::Compact
        } else if string {
            let raw = length.map_or(-1, |length| i16::try_from(length).expect("small"));
            self.out.extend(raw.to_be_bytes());
            LengthKind::Short
        } else {
            let raw = length.map_or(-1, |length| i32::try_from(length).expect("small"));
            self.out.extend(raw.to_be_bytes());
            LengthKind::Int
        };
        self.marks.push(Mark {
            at,
            bytes: self.out.len() - at,
            kind,
        });
    }

    fn uvarint(&mut self, value: u32) {
        let at = self.out.len();
        put_uvarint(&mut self.out, value);
        self.marks.push(Mark {
            at,
            bytes: self.out.len() - at,
            kind: LengthKind::Plain,
        });
    }

    /// The bytes of a field at its default.
    fn default_bytes(&self, field: &Field) -> Vec<u8> {
        let default = field.default.as_deref();
        if default == Some("null") {
            return vec![0];
        }
        let number = |n: usize| -> Vec<u8> {
            let value: i64 = default.map_or(0, |text| text.parse().expect("number"));
            value.to_be_bytes()[8 - n..].to_vec()
        };
        match field.kind.as_str() {
            "bool" => vec![u8::from(default == Some("true"))],
            "int8" => number(1),
            "int16" | "uint16" => number(2),
            "int32" => number(4),
            "int64" => number(8),
            "uuid" => vec![0; 16],
            kind if kind.starts_with("[]") || matches!(kind, "string" | "bytes") => vec![1],
            name => {
                let fields = self.definition.structs[name].iter();
                let present = fields.filter(|field| field.versions.has(self.version) && field.tag.is_none());
                let mut bytes: Vec<u8> = present.flat_map(|field| self.default_bytes(field)).collect();
                bytes.push(0);
                bytes
            }
        }
    }
}

/// Appends an unsigned variable-length integer.
pub fn put_uvarint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}
