//! Manifests: where merged data lies. A small root that names immutable pages, which name slices of merged segments.
//!
//! Owns: both formats, and the look-up of a partition in them.
//! Does not own: publication (the coordination store's `root` names one root), planning (compaction).
//!
//! Invariants: a page's slices are sorted by (topic id, partition, start) and do not overlap; a round of compaction writes
//! the pages it touches anew and a new root. `docs/formats/manifest.md` has the layout.

use bytes::Bytes;

use crate::container::{Container, ContainerBuilder, ContainerKind, Written};
use crate::id::{LogIndex, Offset, Timestamp, TopicPartition};
use crate::index::codec::{PartitionDecoder, PartitionEncoder};
use crate::merged::{advance, distance};
use crate::name::ObjectName;
use crate::wire::{Decoder, Encoder, FormatError};

#[cfg(test)]
mod tests;

/// The version written, of roots and of pages.
pub const MANIFEST_VERSION: u16 = 1;
const HEAD: &str = "head";
const PAGES: &str = "pages";
const OBJECTS: &str = "objects";
const SLICES: &str = "slices";
/// Fewest bytes of a page in a root.
const PAGE_BYTES_MIN: usize = 50;
/// Fewest bytes of an object in a page.
const OBJECT_BYTES_MIN: usize = 23;
/// Fewest bytes of a slice in a page.
const SLICE_BYTES_MIN: usize = 8;

/// The root of a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ManifestRoot {
    /// Everything at or below this log index has been merged: what is stored is found through the pages.
    pub merged_through: LogIndex,
    /// The pages, sorted by (level, first partition).
    pub pages: Vec<PageRef>,
}

/// A page as its root knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRef {
    /// Which object.
    pub name: ObjectName,
    /// Its length.
    pub length_bytes: u64,
    /// How often its data has been merged.
    pub level: u8,
    /// First partition it speaks for.
    pub first: TopicPartition,
    /// Last partition it speaks for.
    pub last: TopicPartition,
    /// What its slices hold in sum.
    pub facts: PageFacts,
}

/// What retention and planning ask of a page without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFacts {
    /// Number of slices.
    pub slices: u64,
    /// Bytes of all slices.
    pub bytes: u64,
    /// Smallest of the slices' largest timestamps: nothing of it has expired before this one has.
    pub oldest: Timestamp,
    /// Largest timestamp.
    pub newest: Timestamp,
}

/// A page of a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ManifestPage {
    /// How often its data has been merged.
    pub level: u8,
    /// The merged segments that its slices lie in.
    pub objects: Vec<MergedObject>,
    /// The slices, sorted by (topic id, partition, start).
    pub slices: Vec<ManifestSlice>,
}

/// A merged segment, as far as a reader needs to know to read its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergedObject {
    /// Which object.
    pub name: ObjectName,
    /// Its length.
    pub length_bytes: u64,
    /// First byte of its index, which reaches to the end.
    pub index_position: u64,
    /// XXH3-128 of its index.
    pub content_hash: u128,
}

/// A slice of a partition in a merged segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManifestSlice {
    /// The partition.
    pub at: TopicPartition,
    /// First offset it speaks for.
    pub start: Offset,
    /// The offset after the last one it speaks for; above `start`.
    pub end: Offset,
    /// Which of the page's objects it lies in.
    pub object: u32,
    /// Its first byte in the object.
    pub position: u64,
    /// Its bytes; 0 when nothing is left in the range.
    pub bytes: u64,
    /// Offsets that its batches take, at most `end` - `start`.
    pub records: u64,
    /// Largest timestamp in it; -1 for none.
    pub max_timestamp: Timestamp,
}

impl ManifestRoot {
    /// The pages that may hold slices of a partition, at most one a level.
    pub fn pages_of(&self, at: TopicPartition) -> impl Iterator<Item = &PageRef> {
        self.pages
            .iter()
            .filter(move |page| page.first <= at && at <= page.last)
    }

    fn check(&self) -> Result<(), FormatError> {
        let ascending = |one: &PageRef, next: &PageRef| {
            one.level < next.level || (one.level == next.level && one.last < next.first)
        };
        if self.pages.is_sorted_by(ascending) && self.pages.iter().all(|page| page.first <= page.last) {
            Ok(())
        } else {
            Err(FormatError::Invalid { what: "order of pages" })
        }
    }

    /// Writes it as a container.
    ///
    /// # Errors
    /// `Invalid` when the pages are not sorted.
    pub fn encode(&self) -> Result<Written, FormatError> {
        self.check()?;
        let (mut head, mut pages) = (Encoder::new(), Encoder::new());
        head.varint(self.merged_through.0);
        pages.count(self.pages.len());
        for page in &self.pages {
            page.name.encode(&mut pages);
            pages.varint(page.length_bytes);
            pages.u8(page.level);
            for at in [page.first, page.last] {
                pages.u128(at.topic.0);
                pages.u32(at.partition.0);
            }
            pages.varint(page.facts.slices);
            pages.varint(page.facts.bytes);
            pages.zigzag(page.facts.oldest.0);
            pages.zigzag(page.facts.newest.0);
        }
        let mut out = ContainerBuilder::new(ContainerKind::Manifest, MANIFEST_VERSION);
        out.section(HEAD, head.finish());
        out.section(PAGES, pages.finish());
        Ok(out.finish())
    }

    /// Reads it back.
    ///
    /// # Errors
    /// Whatever is wrong with the container or its sections.
    pub fn decode(object: &Bytes) -> Result<Self, FormatError> {
        let container = Container::decode(ContainerKind::Manifest, MANIFEST_VERSION, object)?;
        let mut head = Decoder::new(container.section(HEAD)?);
        let mut root = Self {
            merged_through: LogIndex(head.varint()?),
            pages: Vec::new(),
        };
        head.finish()?;
        let mut input = Decoder::new(container.section(PAGES)?);
        for _ in 0..input.count("pages", usize::MAX, PAGE_BYTES_MIN)? {
            root.pages.push(PageRef::decode(&mut input)?);
        }
        input.finish()?;
        root.check()?;
        Ok(root)
    }
}

impl PageRef {
    fn decode(input: &mut Decoder<'_>) -> Result<Self, FormatError> {
        let partition = |input: &mut Decoder<'_>| {
            let topic = crate::id::TopicId(input.u128()?);
            Ok::<_, FormatError>(TopicPartition {
                topic,
                partition: crate::id::PartitionIndex(input.u32()?),
            })
        };
        Ok(Self {
            name: ObjectName::decode(input)?,
            length_bytes: input.varint()?,
            level: input.u8()?,
            first: partition(input)?,
            last: partition(input)?,
            facts: PageFacts {
                slices: input.varint()?,
                bytes: input.varint()?,
                oldest: Timestamp(input.zigzag()?),
                newest: Timestamp(input.zigzag()?),
            },
        })
    }
}

impl ManifestPage {
    /// Its slices in sum; `None` when it has none.
    #[must_use]
    pub fn facts(&self) -> Option<PageFacts> {
        let timestamps = || self.slices.iter().map(|slice| slice.max_timestamp);
        Some(PageFacts {
            slices: u64::try_from(self.slices.len()).expect("a length fits 64 bits"),
            bytes: self.slices.iter().map(|slice| slice.bytes).sum(),
            oldest: timestamps().min()?,
            newest: timestamps().max()?,
        })
    }

    /// What a root says of this page, once it is written; `None` when it has no slices.
    #[must_use]
    pub fn reference(&self, name: ObjectName, length_bytes: u64) -> Option<PageRef> {
        let (first, last) = (self.slices.first()?.at, self.slices.last()?.at);
        Some(PageRef {
            name,
            length_bytes,
            level: self.level,
            first,
            last,
            facts: self.facts()?,
        })
    }

    /// The slices of a partition, ascending by offset.
    #[must_use]
    pub fn slices_of(&self, at: TopicPartition) -> &[ManifestSlice] {
        let from = self.slices.partition_point(|slice| slice.at < at);
        let to = self.slices.partition_point(|slice| slice.at <= at);
        &self.slices[from..to]
    }

    /// The first slice of a partition that ends after an offset: the one that holds it, or the next one.
    #[must_use]
    pub fn slice_at(&self, at: TopicPartition, offset: Offset) -> Option<&ManifestSlice> {
        let slices = self.slices_of(at);
        slices.get(slices.partition_point(|slice| slice.end <= offset))
    }

    fn check(&self) -> Result<(), FormatError> {
        let ascending = |one: &ManifestSlice, next: &ManifestSlice| {
            one.at < next.at || (one.at == next.at && one.end <= next.start)
        };
        if !self.slices.is_sorted_by(ascending) {
            return Err(FormatError::Invalid {
                what: "order of slices",
            });
        }
        let within = |slice: &ManifestSlice| {
            let object = usize::try_from(slice.object).ok().and_then(|at| self.objects.get(at));
            let end = slice.position.checked_add(slice.bytes);
            slice.start.0 >= 0
                && slice.start < slice.end
                && slice.records <= distance(slice.start, slice.end)
                && object
                    .zip(end)
                    .is_some_and(|(object, end)| end <= object.index_position)
        };
        let objects_fit = self
            .objects
            .iter()
            .all(|object| object.index_position < object.length_bytes);
        if objects_fit && self.slices.iter().all(within) {
            Ok(())
        } else {
            Err(FormatError::Invalid { what: "range of slice" })
        }
    }

    /// Writes it as a container.
    ///
    /// # Errors
    /// `Invalid` when slices are not sorted, or lie outside their object.
    pub fn encode(&self) -> Result<Written, FormatError> {
        self.check()?;
        let (mut objects, mut slices) = (Encoder::new(), Encoder::new());
        objects.count(self.objects.len());
        for object in &self.objects {
            object.name.encode(&mut objects);
            objects.varint(object.length_bytes);
            objects.varint(object.index_position);
            objects.u128(object.content_hash);
        }
        slices.count(self.slices.len());
        let mut partitions = PartitionEncoder::default();
        let mut last: Option<&ManifestSlice> = None;
        for slice in &self.slices {
            partitions.encode(slice.at, &mut slices);
            let from = last
                .filter(|last| last.at == slice.at)
                .map_or(Offset(0), |last| last.end);
            slices.varint(distance(from, slice.start));
            slices.varint(distance(slice.start, slice.end));
            slices.varint(u64::from(slice.object));
            slices.varint(slice.position);
            slices.varint(slice.bytes);
            slices.varint(slice.records);
            slices.zigzag(
                slice
                    .max_timestamp
                    .0
                    .wrapping_sub(last.map_or(0, |last| last.max_timestamp.0)),
            );
            last = Some(slice);
        }
        let mut head = Encoder::new();
        head.u8(self.level);
        let mut out = ContainerBuilder::new(ContainerKind::Page, MANIFEST_VERSION);
        out.section(HEAD, head.finish());
        out.section(OBJECTS, objects.finish());
        out.section(SLICES, slices.finish());
        Ok(out.finish())
    }

    /// Reads it back.
    ///
    /// # Errors
    /// Whatever is wrong with the container or its sections.
    pub fn decode(object: &Bytes) -> Result<Self, FormatError> {
        let container = Container::decode(ContainerKind::Page, MANIFEST_VERSION, object)?;
        let mut head = Decoder::new(container.section(HEAD)?);
        let mut page = Self {
            level: head.u8()?,
            ..Self::default()
        };
        head.finish()?;
        let mut input = Decoder::new(container.section(OBJECTS)?);
        for _ in 0..input.count("objects", usize::MAX, OBJECT_BYTES_MIN)? {
            page.objects.push(MergedObject {
                name: ObjectName::decode(&mut input)?,
                length_bytes: input.varint()?,
                index_position: input.varint()?,
                content_hash: input.u128()?,
            });
        }
        input.finish()?;
        let mut input = Decoder::new(container.section(SLICES)?);
        let mut partitions = PartitionDecoder::default();
        for _ in 0..input.count("slices", usize::MAX, SLICE_BYTES_MIN)? {
            let slice = ManifestSlice::decode(&mut partitions, page.slices.last(), &mut input)?;
            page.slices.push(slice);
        }
        input.finish()?;
        page.check()?;
        Ok(page)
    }
}

impl ManifestSlice {
    fn decode(
        partitions: &mut PartitionDecoder,
        last: Option<&Self>,
        input: &mut Decoder<'_>,
    ) -> Result<Self, FormatError> {
        let (at, new) = partitions.decode(input)?;
        let from = last.filter(|_| !new).map_or(Offset(0), |last| last.end);
        let start = advance(from, input.varint()?)?;
        Ok(Self {
            at,
            start,
            end: advance(start, input.varint()?)?,
            object: input.varint_u32("object of slice")?,
            position: input.varint()?,
            bytes: input.varint()?,
            records: input.varint()?,
            max_timestamp: Timestamp(
                last.map_or(0, |last| last.max_timestamp.0)
                    .wrapping_add(input.zigzag()?),
            ),
        })
    }
}
