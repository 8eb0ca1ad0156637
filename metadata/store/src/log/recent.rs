//! Which commits this process has applied lately, one by one.
//!
//! Owns: the proof that a commit did or did not happen after its session, its counter and perhaps its record are gone.
//! Does not own: applying them (`follower`).

use std::collections::VecDeque;

use esker_segment::id::{CommitNumber, LogIndex, SessionId};

/// Commits that are remembered: what a checkpoint takes in at most, and as much again.
const COMMITS_MAX: usize = 8_192;

/// The newest applied commits, without a hole.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// The index before the oldest one.
    after: LogIndex,
    commits: VecDeque<(SessionId, CommitNumber)>,
}

impl Recent {
    /// Begins anew after a checkpoint, which does not tell commits apart.
    pub(super) fn restart(&mut self, after: LogIndex) {
        self.after = after;
        self.commits.clear();
    }

    /// Remembers the commit that comes next.
    pub(super) fn push(&mut self, session: SessionId, number: CommitNumber) {
        self.commits.push_back((session, number));
        if self.commits.len() > COMMITS_MAX {
            self.commits.pop_front();
            self.after.0 += 1;
        }
    }

    /// Which commit stands at an index, if that is known.
    pub(super) fn at(&self, index: LogIndex) -> Option<(SessionId, CommitNumber)> {
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
            .find(|(_, commit)| **commit == (session, number));
        Ok(found.map(|(index, _)| LogIndex(index)))
    }
}

/// The part of the log in question was not applied commit by commit, or too long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotKnown;

#[cfg(test)]
mod tests {
    use super::*;

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
        recent.push(SessionId(1), CommitNumber(1));
        recent.push(SessionId(2), CommitNumber(2));
        assert_eq!(find(&recent, 1, 10, 12), Ok(Some(11)));
        assert_eq!(find(&recent, 2, 10, 12), Ok(None), "that was another session's");
        assert_eq!(find(&recent, 2, 9, 12), Err(NotKnown), "index 10 is not known");
        assert_eq!(find(&recent, 2, 10, 13), Err(NotKnown), "index 13 is not known");
        let at = |index| {
            recent
                .at(LogIndex(index))
                .map(|(session, number)| (session.0, number.0))
        };
        assert_eq!(
            [at(9), at(10), at(11), at(12), at(13)],
            [None, None, Some((1, 1)), Some((2, 2)), None]
        );
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut recent = Recent::default();
        for number in 1..=8_193 {
            recent.push(SessionId(1), CommitNumber(number));
        }
        assert_eq!(find(&recent, 1, 0, 8_193), Err(NotKnown));
        assert_eq!(find(&recent, 2, 1, 8_193), Ok(Some(2)));
        assert_eq!(find(&recent, 8_193, 1, 8_193), Ok(Some(8_193)));
    }
}
