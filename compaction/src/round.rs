//! One round of changes to merged data: objects written, pages changed, a root published.
//!
//! Owns: what a round is made of, the order of its writes, what happens when somebody else published meanwhile.
//! Does not own: what changes (`intake`, `levels`).
//!
//! Invariants: every object that a root will name is durable before the root is published (LOG-3). A round deletes what it
//! wrote only when its root certainly was not published and never will be: the root moved while session and counter stood
//! still. After any other end its objects are left to the garbage collector, which knows (GC-1).

use bytes::Bytes;
use esker_metadata::checkpoint::{ObjectWriter, PublishError};
use esker_metadata::keys::root::{ObjectRef, Root};
use esker_metadata::log::{Cluster, Leadership, PublishedRoot, RootOutcome, read_root};
use esker_metadata::store::MetadataError;
use esker_segment::container::Written;
use esker_segment::id::LogIndex;
use esker_segment::manifest::{ManifestRoot, PageRef};
use esker_segment::name::{ObjectKind, ObjectName};
use esker_segment::segment::SegmentHeader;
use esker_segment::wire::FormatError;
use esker_storage::merged::{Manifests, MergedError};
use esker_storage::named::NamedObjects;
use esker_storage::store::StoreError;

use crate::edit::{Edit, manifest_root, object_of, plan_pages, rebuild};
use crate::liveness::Liveness;
use crate::settings::MergeSettings;

/// Publications that a round tries on top of roots that others published.
const REBASES_MAX: u32 = 8;

/// Why a round did not come to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoundError {
    /// The bucket.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A manifest, or something that it names.
    #[error(transparent)]
    Merged(#[from] MergedError),
    /// An object of the checkpoint cannot be read.
    #[error("{name:?} cannot be read: {why}")]
    Object {
        /// Which one.
        name: ObjectName,
        /// Why.
        why: FormatError,
    },
    /// The coordination store.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The publication; whether it took place may be unknown.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// What was merged contradicts itself.
    #[error("merged data is not in order: {0}")]
    Order(#[from] FormatError),
}

/// What came of a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoundOutcome {
    /// There is a new root.
    Published(Box<PublishedRoot>),
    /// Somebody else changed the same manifest, or the session is lost. Take another object writer.
    Lost,
}

/// What every round works with.
#[derive(Clone, Copy)]
pub struct RoundContext<'a> {
    /// The coordination store.
    pub cluster: &'a Cluster,
    /// The duty under which the round is published.
    pub duty: &'a Leadership,
    /// Manifests and the bucket.
    pub manifests: &'a Manifests,
    /// Sizes.
    pub settings: MergeSettings,
}

/// Writes the objects of one round.
pub struct RoundWriter<'a> {
    context: RoundContext<'a>,
    names: &'a mut ObjectWriter,
    written: Vec<ObjectName>,
    bytes: u64,
}

impl<'a> RoundWriter<'a> {
    /// For a new round.
    #[must_use]
    pub fn new(context: RoundContext<'a>, names: &'a mut ObjectWriter) -> Self {
        Self {
            context,
            names,
            written: Vec::new(),
            bytes: 0,
        }
    }

    /// The bucket.
    #[must_use]
    pub fn objects(&self) -> &'a NamedObjects {
        self.context.manifests.objects()
    }

    /// A name for an object.
    pub fn name(&mut self, kind: ObjectKind) -> ObjectName {
        self.names.name(kind)
    }

    /// The header of a merged segment of that name.
    #[must_use]
    pub fn header(&self, name: &ObjectName) -> SegmentHeader {
        crate::merge::header(name, self.context.cluster.incarnation.id)
    }

    /// Bytes that were written.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes an object.
    ///
    /// # Errors
    /// As the bucket says.
    pub async fn write(&mut self, name: ObjectName, chunks: Vec<Bytes>) -> Result<(), RoundError> {
        self.written.push(name);
        self.bytes += chunks
            .iter()
            .map(|chunk| u64::try_from(chunk.len()).unwrap_or(u64::MAX))
            .sum::<u64>();
        Ok(self.objects().create(&name, chunks).await?)
    }

    async fn container(&mut self, kind: ObjectKind, written: Written) -> Result<ObjectRef, RoundError> {
        let name = self.name(kind);
        let (length_bytes, digest) = (written.length_bytes, written.digest);
        self.write(name, written.chunks).await?;
        Ok(ObjectRef {
            name,
            length_bytes,
            digest,
        })
    }

    /// Applies an edit to the manifest of a root, leaving out what is dead, and publishes the result as merged through
    /// `merged_through`.
    ///
    /// # Errors
    /// See [`RoundError`]; the round had no effect, unless the publication is unknown.
    pub async fn publish(
        &mut self,
        base: &PublishedRoot,
        edit: &Edit,
        liveness: &Liveness,
        merged_through: LogIndex,
    ) -> Result<RoundOutcome, RoundError> {
        let manifest = self.manifest(base, edit, liveness, merged_through).await?;
        let mut current = base.clone();
        for _ in 0..REBASES_MAX {
            let Some(root) = merged_root(&base.root, &current.root, manifest, merged_through) else {
                break;
            };
            let (cluster, duty) = (self.context.cluster, self.context.duty);
            match self.names.publish(cluster, Some(&current), root, duty).await? {
                RootOutcome::Published(published) => return Ok(RoundOutcome::Published(published)),
                // Not certain: an unanswered attempt may have been published, and built upon since.
                RootOutcome::NotLeading => return Ok(RoundOutcome::Lost),
                RootOutcome::Raced => {}
            }
            match read_root(self.context.cluster).await? {
                Some(root) => current = root,
                None => break,
            }
        }
        self.discard().await;
        Ok(RoundOutcome::Lost)
    }

    async fn manifest(
        &mut self,
        base: &PublishedRoot,
        edit: &Edit,
        liveness: &Liveness,
        merged_through: LogIndex,
    ) -> Result<ObjectRef, RoundError> {
        let manifests = self.context.manifests;
        let old = match base.root.manifest_ref() {
            Some(root) => manifests.root(root).await?,
            None => std::sync::Arc::default(),
        };
        let slices_max = self.context.settings.page_slices_max;
        let plan = plan_pages(&old, edit, slices_max);
        let mut pages = plan.kept;
        for group in &plan.groups {
            let mut replaced = Vec::with_capacity(group.replaced.len());
            for page in &group.replaced {
                replaced.push(manifests.page(page).await?);
            }
            let keep = |slice: &esker_segment::manifest::ManifestSlice,
                        object: &esker_segment::manifest::MergedObject| {
                !edit.remove.contains(&object.name) && liveness.keeps(slice.at, slice.end)
            };
            for page in rebuild(group, replaced.iter().map(|page| &**page), keep, slices_max) {
                let written = self.container(ObjectKind::Page, page.encode()?).await?;
                let reference: Option<PageRef> = page.reference(written.name, written.length_bytes);
                pages.extend(reference);
            }
        }
        let root: ManifestRoot = manifest_root(merged_through, pages);
        self.container(ObjectKind::Manifest, root.encode()?).await
    }

    /// Deletes what was written; to be called only when it is certain that no root names it. Backwards:
    /// whoever finds the manifest finds what it names.
    async fn discard(&mut self) {
        for name in self.written.drain(..).rev() {
            if let Err(error) = self.context.manifests.objects().delete(&name).await {
                tracing::debug!(%error, "object of a lost round is left to the garbage collector");
            }
        }
    }
}

/// The root after a round that was made on `base`, on top of the root that is published now. `None` when that one merged,
/// too.
#[must_use]
pub fn merged_root(base: &Root, current: &Root, manifest: ObjectRef, merged_through: LogIndex) -> Option<Root> {
    let same = current.manifest == base.manifest && current.merged_through == base.merged_through;
    same.then(|| Root {
        indexes: current
            .indexes
            .iter()
            .filter(|index| index.last > merged_through)
            .copied()
            .collect(),
        manifest: Some(manifest),
        merged_through,
        ..current.clone()
    })
}

/// Every slice of a page with its object.
pub(crate) fn slices_of_page(
    page: &esker_segment::manifest::ManifestPage,
) -> impl Iterator<Item = crate::edit::NewSlice> {
    page.slices.iter().map(|slice| crate::edit::NewSlice {
        slice: *slice,
        object: object_of(page, slice),
    })
}
