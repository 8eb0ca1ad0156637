//! Checkpoints in time: when there is one, and what is done when somebody else published meanwhile.
//!
//! Owns: the decision, the order of writing, publishing and giving up.
//! Does not own: what a checkpoint is (`esker_metadata::checkpoint`), truncation (`service` calls it).
//!
//! Invariants: an idle cluster has no checkpoints. Two at once harm nothing: one is published, the other's objects go.

use esker_metadata::checkpoint::{CheckpointError, ObjectWriter, PublishError, rebase, write};
use esker_metadata::log::{Cluster, Leadership, PublishedRoot, RootOutcome, read_root};
use esker_metadata::replica::Replica;
use esker_metadata::store::MetadataError;
use esker_model::Fold;
use esker_segment::id::LogIndex;
use esker_segment::name::ObjectName;
use esker_storage::named::NamedObjects;
use tokio::time::Instant;

use crate::settings::CheckpointSettings;

/// Publications that a checkpoint tries on top of roots of merges.
const REBASES_MAX: u32 = 8;

/// Knows for how long there is something to write.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// When commits above the root were first seen, and that root's index.
    behind: Option<(LogIndex, Instant)>,
    /// The last commit that was seen, and when.
    last: Option<(LogIndex, Instant)>,
}

impl Pace {
    /// Whether a checkpoint is due, when the fold has come to `index` and the root to `root`, and so many segments above
    /// it are known.
    pub fn is_due(
        &mut self,
        (index, root): (LogIndex, LogIndex),
        segments: u64,
        now: Instant,
        settings: &CheckpointSettings,
    ) -> bool {
        let last = match self.last {
            Some((seen, at)) if seen == index => at,
            Some(_) | None => {
                self.last = Some((index, now));
                now
            }
        };
        if index <= root {
            self.behind = None;
            return false;
        }
        let since = match self.behind {
            Some((of, since)) if of == root => since,
            Some(_) | None => {
                self.behind = Some((root, now));
                now
            }
        };
        index.0 - root.0 >= settings.commits_max
            || segments >= settings.segments_max
            || now.duration_since(since) >= settings.interval
            || now.duration_since(last) >= settings.idle
    }
}

/// Why there is no checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointerError {
    /// It could not be written.
    #[error(transparent)]
    Write(#[from] CheckpointError),
    /// It could not be published, or nobody knows.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The root could not be read.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckpointOutcome {
    /// There is a new root.
    Published(Box<PublishedRoot>),
    /// There was nothing to write.
    Nothing,
    /// Somebody else's came first, or the session is lost. Take another object writer.
    Lost,
}

/// Writes and publishes a checkpoint of the fold as it is; `at_cut` is shown that fold.
///
/// # Errors
/// See [`CheckpointerError`]. What was written is garbage then, unless a publication is unknown.
pub async fn checkpoint(
    cluster: &Cluster,
    objects: &NamedObjects,
    replica: &Replica,
    seen: Option<&PublishedRoot>,
    names: &mut ObjectWriter,
    duty: &Leadership,
    at_cut: impl FnOnce(&Fold) + Send,
) -> Result<CheckpointOutcome, CheckpointerError> {
    let Some(written) = write(cluster, objects, replica, seen, names, at_cut).await? else {
        return Ok(CheckpointOutcome::Nothing);
    };
    let mut current = seen.cloned();
    let mut root = written.root.clone();
    for _ in 0..REBASES_MAX {
        match names.publish(cluster, current.as_ref(), root, duty).await? {
            RootOutcome::Published(published) => return Ok(CheckpointOutcome::Published(published)),
            // Not certain: an unanswered attempt may have been published, and built upon since.
            RootOutcome::NotLeading => return Ok(CheckpointOutcome::Lost),
            RootOutcome::Raced => current = read_root(cluster).await?,
        }
        let before = seen.map(|seen| &seen.root);
        let rebased = current
            .as_ref()
            .and_then(|current| rebase(&written.root, before, &current.root));
        match rebased {
            Some(rebased) => root = rebased,
            None => break,
        }
    }
    discard(objects, &written.objects).await;
    Ok(CheckpointOutcome::Lost)
}

/// Deletes objects that certainly no root names. Backwards: a state without the index objects before it would look whole to a
/// recovery.
async fn discard(objects: &NamedObjects, names: &[ObjectName]) {
    for name in names.iter().rev() {
        if let Err(error) = objects.delete(name).await {
            tracing::debug!(%error, "object of a lost checkpoint is left to the garbage collector");
        }
    }
}

#[cfg(test)]
mod tests {
    //! When a checkpoint is due.

    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_checkpoint_is_due_after_many_commits_or_some_time_but_never_without_a_commit() {
        let (settings, mut pace) = (CheckpointSettings::default(), Pace::default());
        let start = Instant::now();
        let mut due = |index, root, seconds| {
            let now = start + Duration::from_secs(seconds);
            pace.is_due((LogIndex(index), LogIndex(root)), 0, now, &settings)
        };
        assert!(!due(7, 7, 100));
        assert!(!due(8, 7, 1_000), "waits for more to come");
        for (index, seconds) in [(9, 1_009), (10, 1_018), (11, 1_027), (12, 1_029)] {
            assert!(!due(index, 7, seconds));
        }
        assert!(due(12, 7, 1_030));
        assert!(due(4_103, 7, 1_031));
        // Another checkpoint was published: time begins anew.
        assert!(!due(4_110, 4_103, 1_032));
        assert!(!due(4_110, 4_103, 1_041));
        assert!(due(4_110, 4_103, 1_042), "nothing more comes");
    }

    #[tokio::test(start_paused = true)]
    async fn many_segments_make_a_checkpoint_due_if_there_was_a_commit() {
        let (settings, mut pace) = (CheckpointSettings::default(), Pace::default());
        let mut due =
            |index, segments| pace.is_due((LogIndex(index), LogIndex(7)), segments, Instant::now(), &settings);
        assert!(!due(7, 5_000));
        assert!(!due(40, settings.segments_max - 1));
        assert!(due(40, settings.segments_max));
    }
}
