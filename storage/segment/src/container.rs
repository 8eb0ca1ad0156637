//! The container of every object that is not a segment: named sections with checksums and a digest over all.
//!
//! Owns: magic, kind, version, sections, digest.
//! Does not own: what stands in a section (`checkpoint`, `manifest`, `journal`; the state sections are `esker-model`'s).
//!
//! Invariants: sections are neither copied when written nor when read; an object that decodes is byte for byte the one that
//! was written. `docs/formats/checkpoint.md` has the layout.

use bytes::Bytes;

use crate::checksum::{crc32c, expect_crc};
use crate::wire::{Decoder, Encoder, FormatError};

#[cfg(test)]
mod tests;

const HEAD_MAGIC: &[u8; 8] = b"ESKEROBJ";
const END_MAGIC: &[u8; 8] = b"ESKEREND";
/// Section count, digest and magic at the end.
const FOOTER_BYTES: usize = 4 + 16 + 8;
/// Most sections of a container.
pub const SECTIONS_MAX: usize = 64;
/// Most bytes of a section name.
pub const SECTION_NAME_BYTES_MAX: usize = 32;

/// What a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerKind {
    /// State of the fold.
    State,
    /// Batch indexes of a range of log indexes.
    Index,
    /// Root of a manifest.
    Manifest,
    /// Page of a manifest.
    Page,
    /// Order of commits.
    Order,
    /// Which random id an incarnation has.
    Incarnation,
}

impl ContainerKind {
    const fn code(self) -> u16 {
        match self {
            Self::State => 1,
            Self::Index => 2,
            Self::Manifest => 3,
            Self::Page => 4,
            Self::Order => 5,
            Self::Incarnation => 6,
        }
    }

    /// For messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::State => "state object",
            Self::Index => "index object",
            Self::Manifest => "manifest",
            Self::Page => "manifest page",
            Self::Order => "order journal",
            Self::Incarnation => "incarnation object",
        }
    }
}

/// A container in the making.
#[derive(Clone, Debug)]
pub struct ContainerBuilder {
    chunks: Vec<Bytes>,
    sections: u32,
}

/// A container ready to be written.
#[derive(Clone, Debug)]
pub struct Written {
    /// Its bytes, in order.
    pub chunks: Vec<Bytes>,
    /// Sum of the lengths of the chunks.
    pub length_bytes: u64,
    /// XXH3-128 over all before it.
    pub digest: u128,
}

impl Written {
    /// All bytes in one piece.
    #[must_use]
    pub fn concat(&self) -> Bytes {
        self.chunks.concat().into()
    }
}

impl ContainerBuilder {
    /// Begins a container; `version` is that of the sections' content.
    #[must_use]
    pub fn new(kind: ContainerKind, version: u16) -> Self {
        let mut head = Encoder::with_capacity(12);
        head.raw(HEAD_MAGIC);
        head.u16(kind.code());
        head.u16(version);
        Self {
            chunks: vec![head.finish().into()],
            sections: 0,
        }
    }

    /// Adds a section.
    ///
    /// # Panics
    /// When the name is empty or too long, or there are too many sections.
    pub fn section(&mut self, name: &'static str, content: impl Into<Bytes>) {
        let content = content.into();
        assert!(
            (1..=SECTION_NAME_BYTES_MAX).contains(&name.len()),
            "section names are short"
        );
        self.sections += 1;
        assert!(
            usize::try_from(self.sections).is_ok_and(|sections| sections <= SECTIONS_MAX),
            "few sections"
        );
        let mut head = Encoder::new();
        head.str(name);
        head.u64(u64::try_from(content.len()).expect("a length fits 64 bits"));
        head.u32(crc32c(&content));
        self.chunks.extend([head.finish().into(), content]);
    }

    /// Appends the digest.
    #[must_use]
    pub fn finish(mut self) -> Written {
        let mut count = Encoder::with_capacity(4);
        count.u32(self.sections);
        self.chunks.push(count.finish().into());
        let mut hash = xxhash_rust::xxh3::Xxh3Default::new();
        self.chunks.iter().for_each(|chunk| hash.update(chunk));
        let digest = hash.digest128();
        let mut end = Encoder::with_capacity(24);
        end.u128(digest);
        end.raw(END_MAGIC);
        self.chunks.push(end.finish().into());
        let length: usize = self.chunks.iter().map(Bytes::len).sum();
        Written {
            chunks: self.chunks,
            length_bytes: u64::try_from(length).expect("a length fits 64 bits"),
            digest,
        }
    }
}

/// A container that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Version of the sections' content.
    pub version: u16,
    /// XXH3-128 over all before it.
    pub digest: u128,
    sections: Vec<(String, Bytes)>,
}

impl Container {
    /// Reads a container of one kind, of version 1 to `version_known`. The sections are slices of `object`.
    ///
    /// # Errors
    /// `Magic` for another kind, `Version`, `Hash` when any byte is damaged, `Checksum` naming the section when one is.
    pub fn decode(kind: ContainerKind, version_known: u16, object: &Bytes) -> Result<Self, FormatError> {
        let what = kind.name();
        let mut input = Decoder::new(object);
        if input.raw(8)? != HEAD_MAGIC || input.u16()? != kind.code() {
            return Err(FormatError::Magic { what });
        }
        let found = input.u16()?;
        if found == 0 || found > version_known {
            return Err(FormatError::Version {
                what,
                found,
                known: version_known,
            });
        }
        let sections_bytes = input
            .left()
            .checked_sub(FOOTER_BYTES)
            .ok_or(FormatError::Invalid { what })?;
        let mut body = Decoder::new(input.raw(sections_bytes)?);
        let (count, digest) = (input.u32()?, input.u128()?);
        if input.raw(8)? != END_MAGIC {
            return Err(FormatError::Magic { what });
        }
        let mut sections = Vec::new();
        while body.left() > 0 {
            if sections.len() == SECTIONS_MAX {
                return Err(FormatError::Invalid {
                    what: "number of sections",
                });
            }
            sections.push(section(&mut body, object)?);
        }
        if u32::try_from(sections.len()) != Ok(count) {
            return Err(FormatError::Invalid {
                what: "number of sections",
            });
        }
        let covered = object.len() - (FOOTER_BYTES - 4);
        if crate::checksum::content_hash(&object[..covered]) != digest {
            return Err(FormatError::Hash { what });
        }
        Ok(Self {
            version: found,
            digest,
            sections,
        })
    }

    /// The content of a section.
    ///
    /// # Errors
    /// `Invalid` when there is none of that name.
    pub fn section(&self, name: &'static str) -> Result<&Bytes, FormatError> {
        let found = self.sections.iter().find(|(known, _)| known == name);
        found
            .map(|(_, content)| content)
            .ok_or(FormatError::Invalid { what: name })
    }

    /// Names of the sections, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.sections.iter().map(|(name, _)| name.as_str())
    }
}

fn section(body: &mut Decoder<'_>, object: &Bytes) -> Result<(String, Bytes), FormatError> {
    let name = body.str("section name", SECTION_NAME_BYTES_MAX)?.to_owned();
    let (length, crc) = (body.u64()?, body.u32()?);
    let left = u64::try_from(body.left()).expect("a length fits 64 bits");
    let length = usize::try_from(length).map_err(|_| FormatError::Truncated { needed: length, left })?;
    let content = body.raw(length)?;
    expect_crc("section", crc, content)?;
    Ok((name, object.slice_ref(content)))
}
