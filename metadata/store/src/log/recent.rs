//! Which commits this process has applied lately, one by one.
//!
//! Owns: the proof that a commit did or did not happen after its session, its counter and perhaps its record are gone.
//! Does not own: applying them (`follower`).

use std::collections::VecDeque;

use esker_segment::id::{CommitNumber, LogIndex, SessionId};
use xxhash_rust::xxh3::xxh3_64;

use super::follower::AppliedCommit;

/// Commits that are remembered: what a checkpoint takes in at most, and as much again.
const COMMITS_MAX: usize = 8_192;

/// The newest applied commits, without a hole.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// The index before the oldest one.
    after: LogIndex,
    commits: VecDeque<Applied>,
}

/// A commit that was applied. A store that was restored from a backup may give the same session id and number to another
/// commit, so what it said is part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Applied {
    session: SessionId,
    number: CommitNumber,
    record: u64,
}

impl Applied {
    pub(super) fn of(commit: &AppliedCommit) -> Self {
        Self {
            session: commit.session,
            number: commit.number,
            record: xxh3_64(&commit.record),
        }
    }
}

impl Recent {
    /// Begins anew after a checkpoint, which does not tell commits apart.
    pub(super) fn restart(&mut self, after: LogIndex) {
        self.after = after;
        self.commits.clear();
    }

    /// Remembers the commit that comes next.
    pub(super) fn push(&mut self, commit: Applied) {
        self.commits.push_back(commit);
        if self.commits.len() > COMMITS_MAX {
            self.commits.pop_front();
            self.after.0 += 1;
        }
    }

    /// Which commit stands at an index, if that is known.
    pub(super) fn at(&self, index: LogIndex) -> Option<Applied> {
        let behind = index.0.checked_sub(self.after.0 + 1)?;
        self.commits.get(usize::try_from(behind).ok()?).copied()
    }

    /// Where a commit stands, if it is among those after `after` and up to `through`; `Err` when they are not all known.
    pub(super) fn find(
        &self,
        (session, number): (SessionId, CommitNumber),
        after: LogIndex,
        through: LogIndex,
    ) -> Result<Option<LogIndex>, NotKnown> {
        let known_through = self.after.0 + u64::try_from(self.commits.len()).expect("a length fits");
        if after < self.after || through.0 > known_through {
            return Err(NotKnown);
        }
        let found = (self.after.0 + 1..)
            .zip(&self.commits)
            .find(|(_, commit)| (commit.session, commit.number) == (session, number));
        Ok(found.map(|(index, _)| LogIndex(index)))
    }
}

/// The part of the log in question was not applied commit by commit, or too long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotKnown;

#[cfg(test)]
mod tests {
    use super::*;

    const fn applied(session: u64, number: u64) -> Applied {
        Applied {
            session: SessionId(session),
            number: CommitNumber(number),
            record: 7,
        }
    }

    fn find(recent: &Recent, number: u64, after: u64, through: u64) -> Result<Option<u64>, NotKnown> {
        let commit = (SessionId(1), CommitNumber(number));
        recent
            .find(commit, LogIndex(after), LogIndex(through))
            .map(|found| found.map(|index| index.0))
    }

    #[test]
    fn only_what_is_wholly_known_is_decided() {
        let mut recent = Recent::default();
        recent.restart(LogIndex(10));
        recent.push(applied(1, 1));
        recent.push(applied(2, 2));
        assert_eq!(find(&recent, 1, 10, 12), Ok(Some(11)));
        assert_eq!(find(&recent, 2, 10, 12), Ok(None), "that was another session's");
        assert_eq!(find(&recent, 2, 9, 12), Err(NotKnown), "index 10 is not known");
        assert_eq!(find(&recent, 2, 10, 13), Err(NotKnown), "index 13 is not known");
        let at = [9, 10, 11, 12, 13].map(|index| recent.at(LogIndex(index)));
        assert_eq!(at, [None, None, Some(applied(1, 1)), Some(applied(2, 2)), None]);
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut recent = Recent::default();
        for number in 1..=8_193 {
            recent.push(applied(1, number));
        }
        assert_eq!(find(&recent, 1, 0, 8_193), Err(NotKnown));
        assert_eq!(find(&recent, 2, 1, 8_193), Ok(Some(2)));
        assert_eq!(find(&recent, 8_193, 1, 8_193), Ok(Some(8_193)));
    }
}
