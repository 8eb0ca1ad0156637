//! Manifest roots, pages and the indexes of the objects they name, read and decoded once.
//!
//! Owns: reading them, binding each to what refers to it, their size in memory.
//! Does not own: which manifest is current (`merged`).

use std::mem::size_of;
use std::sync::Arc;

use esker_segment::id::{IncarnationNumber, Offset, Timestamp};
use esker_segment::manifest::{ManifestPage, ManifestRoot, ManifestSlice, MergedObject, PageRef};
use esker_segment::merged::MergedIndex;
use esker_segment::name::ObjectName;
use esker_segment::segment::{SegmentIndex, SegmentTail};
use esker_segment::wire::FormatError;

use super::decoded::Decoded;
use super::{ManifestRef, MergedError};
use crate::named::NamedObjects;

/// One batch of an object, as much of it as a look-up needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Offset of its first record; `None` in a fresh segment, whose index has no offsets.
    base: Option<Offset>,
    /// First byte in the object.
    pub position: u64,
    /// Largest timestamp.
    pub max_timestamp: Timestamp,
    /// Offsets it takes.
    pub records: u32,
    /// Its length.
    pub bytes: u32,
    /// Whether it is a transaction marker.
    pub control: bool,
}

/// The batches of an object that a manifest names, by position.
///
/// Nearly always a merged segment. A fresh one stands in a manifest when it could not be read at the time of the merge: its
/// slices are runs of stored batches without a gap, so offsets follow from where a slice begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectBatches {
    batches: Vec<Batch>,
    epoch: Option<IncarnationNumber>,
}

impl ObjectBatches {
    fn new(name: ObjectName, index: &SegmentIndex) -> Self {
        match (index, name) {
            (SegmentIndex::Merged(index), _) => Self {
                batches: index
                    .places()
                    .map(|(_, place, batch)| placed(place.position, batch))
                    .collect(),
                epoch: None,
            },
            (SegmentIndex::Fresh(index), ObjectName::Segment(name) | ObjectName::Other { name, .. }) => Self {
                batches: index
                    .places()
                    .map(|(_, place, meta)| Batch {
                        base: None,
                        position: place.position,
                        max_timestamp: meta.max_timestamp,
                        records: meta.records,
                        bytes: meta.bytes,
                        control: false,
                    })
                    .collect(),
                epoch: Some(name.incarnation),
            },
        }
    }

    /// The leader epoch to serve its batches with; `None` when it is right in their bytes.
    #[must_use]
    pub fn epoch(&self) -> Option<IncarnationNumber> {
        self.epoch
    }

    /// The batches of a slice with their offsets, ascending.
    pub fn of(&self, slice: &ManifestSlice) -> impl Iterator<Item = (Offset, &Batch)> {
        let first = self.batches.partition_point(|batch| batch.position < slice.position);
        let end = slice.position.saturating_add(slice.bytes);
        let mut next = slice.start;
        self.batches[first..]
            .iter()
            .take_while(move |batch| batch.position < end)
            .map(move |batch| {
                let base = batch.base.unwrap_or(next);
                next = base.plus(batch.records);
                (base, batch)
            })
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.batches.capacity() * size_of::<Batch>()
    }
}

fn placed(position: u64, batch: &esker_segment::merged::PlacedBatch) -> Batch {
    Batch {
        base: Some(batch.base),
        position,
        max_timestamp: batch.meta.max_timestamp,
        records: batch.meta.records,
        bytes: batch.meta.bytes,
        control: batch.control,
    }
}

#[derive(Clone, Debug)]
enum Object {
    Root(Arc<ManifestRoot>),
    Page(Arc<ManifestPage>),
    Batches(Arc<ObjectBatches>),
}

/// Reads manifests and what they name.
#[derive(Debug)]
pub struct Manifests {
    objects: NamedObjects,
    decoded: Decoded<Object>,
}

impl Manifests {
    /// Keeps at most `bytes_max` bytes decoded.
    #[must_use]
    pub fn new(objects: NamedObjects, bytes_max: usize) -> Self {
        Self {
            objects,
            decoded: Decoded::new(bytes_max),
        }
    }

    /// The objects it reads from.
    #[must_use]
    pub fn objects(&self) -> &NamedObjects {
        &self.objects
    }

    /// A root.
    ///
    /// # Errors
    /// See [`MergedError`].
    pub async fn root(&self, (name, length_bytes): ManifestRef) -> Result<Arc<ManifestRoot>, MergedError> {
        let load = async {
            let bytes = self.objects.read_whole(&name, length_bytes).await?;
            let root = ManifestRoot::decode(&bytes).map_err(|why| self.damaged(name, why))?;
            let memory = size_of::<ManifestRoot>() + root.pages.capacity() * size_of::<PageRef>();
            Ok::<_, MergedError>((Object::Root(Arc::new(root)), memory))
        };
        match self.decoded.get(name, load).await? {
            Object::Root(root) => Ok(root),
            Object::Page(_) | Object::Batches(_) => Err(self.mistaken(name, "manifest")),
        }
    }

    /// A page.
    ///
    /// # Errors
    /// See [`MergedError`].
    pub async fn page(&self, page: &PageRef) -> Result<Arc<ManifestPage>, MergedError> {
        let name = page.name;
        let load = async {
            let page = self.read_page(page).await?;
            let memory = size_of::<ManifestPage>()
                + page.objects.capacity() * size_of::<MergedObject>()
                + page.slices.capacity() * size_of::<ManifestSlice>();
            Ok::<_, MergedError>((Object::Page(Arc::new(page)), memory))
        };
        match self.decoded.get(name, load).await? {
            Object::Page(page) => Ok(page),
            Object::Root(_) | Object::Batches(_) => Err(self.mistaken(name, "manifest page")),
        }
    }

    /// A page, for somebody who goes through all of them: it is kept no longer for that, and nothing goes for its sake.
    ///
    /// # Errors
    /// See [`MergedError`].
    pub async fn glance(&self, page: &PageRef) -> Result<Arc<ManifestPage>, MergedError> {
        match self.decoded.peek(page.name) {
            Some(Object::Page(page)) => Ok(page),
            Some(Object::Root(_) | Object::Batches(_)) => Err(self.mistaken(page.name, "manifest page")),
            None => Ok(Arc::new(self.read_page(page).await?)),
        }
    }

    async fn read_page(&self, page: &PageRef) -> Result<ManifestPage, MergedError> {
        let bytes = self.objects.read_whole(&page.name, page.length_bytes).await?;
        ManifestPage::decode(&bytes).map_err(|why| self.damaged(page.name, why))
    }

    /// Where the batches of an object lie.
    ///
    /// # Errors
    /// See [`MergedError`].
    pub async fn batches(&self, object: &MergedObject) -> Result<Arc<ObjectBatches>, MergedError> {
        let name = object.name;
        let load = async {
            let tail = self.tail(object).await?;
            let batches = ObjectBatches::new(name, &tail.index);
            let memory = batches.memory_bytes();
            Ok::<_, MergedError>((Object::Batches(Arc::new(batches)), memory))
        };
        match self.decoded.get(name, load).await? {
            Object::Batches(batches) => Ok(batches),
            Object::Root(_) | Object::Page(_) => Err(self.mistaken(name, "merged segment")),
        }
    }

    /// The whole index of a merged segment, not kept.
    ///
    /// # Errors
    /// See [`MergedError`].
    pub async fn index(&self, object: &MergedObject) -> Result<MergedIndex, MergedError> {
        match self.tail(object).await?.index {
            SegmentIndex::Merged(index) => Ok(index),
            SegmentIndex::Fresh(_) => Err(self.mistaken(object.name, "merged segment")),
        }
    }

    async fn tail(&self, object: &MergedObject) -> Result<SegmentTail, MergedError> {
        let range = object.index_position..object.length_bytes;
        let bytes = self.objects.read(&object.name, range).await?;
        let tail = SegmentTail::decode(&bytes, object.length_bytes).map_err(|why| self.damaged(object.name, why))?;
        if tail.footer.content_hash == object.content_hash {
            Ok(tail)
        } else {
            Err(self.damaged(object.name, FormatError::Hash { what: "segment index" }))
        }
    }

    fn damaged(&self, name: ObjectName, why: FormatError) -> MergedError {
        let key = self.objects.key(&name);
        MergedError::Damaged { key, why }
    }

    fn mistaken(&self, name: ObjectName, what: &'static str) -> MergedError {
        self.damaged(name, FormatError::Magic { what })
    }
}
