//! When an object is garbage. Pure.
//!
//! Invariants: GC-1 (design section 5).

use esker_segment::id::{IncarnationNumber, SegmentNumber};
use esker_segment::name::{ObjectKind, ObjectName};

use super::references::Standing;

/// What is to become of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Something refers to it.
    Referenced,
    /// Its session lives and may still commit or publish it.
    MayStillCount,
    /// It is of another incarnation, or of a kind that this collector does not judge.
    NotOurs,
    /// Nothing refers to it, and nothing ever will.
    Garbage,
}

/// Judges an object that was listed before the standing was read.
#[must_use]
pub fn judge(name: &ObjectName, standing: &Standing, incarnation: IncarnationNumber) -> Verdict {
    let of = match name {
        ObjectName::Segment(name) | ObjectName::Other { name, .. } => name,
    };
    if of.incarnation != incarnation {
        return Verdict::NotOurs;
    }
    // An order journal is never referred to: it is there for recovery from the bucket alone.
    if matches!(
        name,
        ObjectName::Other {
            kind: ObjectKind::Order,
            ..
        }
    ) {
        return Verdict::NotOurs;
    }
    if standing.references.names.contains(name) {
        return Verdict::Referenced;
    }
    let Some(session) = standing.sessions.get(&of.session) else {
        // No compare of a dead session holds: it commits and publishes nothing any more.
        return Verdict::Garbage;
    };
    let settled: SegmentNumber = match name {
        ObjectName::Segment(_) => session.segments,
        ObjectName::Other { .. } => session.published,
    };
    if of.number <= settled {
        Verdict::Garbage
    } else {
        Verdict::MayStillCount
    }
}

#[cfg(test)]
mod tests {
    //! The rule, case by case.

    use std::collections::BTreeMap;

    use esker_segment::id::SessionId;
    use esker_segment::name::SegmentName;

    use super::*;
    use crate::garbage::references::{Counters, References};

    const OURS: IncarnationNumber = IncarnationNumber(1);

    fn segment(session: u64, number: u64, attempt: u32) -> SegmentName {
        SegmentName {
            incarnation: OURS,
            session: SessionId(session),
            number: SegmentNumber(number),
            attempt,
        }
    }

    fn standing(referenced: &[ObjectName]) -> Standing {
        let counters = Counters {
            segments: SegmentNumber(5),
            published: SegmentNumber(2),
        };
        Standing {
            sessions: BTreeMap::from([(SessionId(7), counters)]),
            counter: SessionId(7),
            references: References {
                names: referenced.iter().copied().collect(),
            },
        }
    }

    #[test]
    fn an_object_of_a_live_session_above_its_counter_stays() {
        let fresh = ObjectName::Segment(segment(7, 6, 0));
        assert_eq!(judge(&fresh, &standing(&[]), OURS), Verdict::MayStillCount);
        let name = segment(7, 3, 9);
        let merged = ObjectName::Other {
            kind: ObjectKind::Merged,
            name,
        };
        assert_eq!(
            judge(&merged, &standing(&[]), OURS),
            Verdict::MayStillCount,
            "counters are not mixed up"
        );
    }

    #[test]
    fn the_loser_of_a_hedge_goes_once_its_number_is_settled() {
        let (winner, loser) = (
            ObjectName::Segment(segment(7, 5, 0)),
            ObjectName::Segment(segment(7, 5, 1)),
        );
        assert_eq!(judge(&winner, &standing(&[winner]), OURS), Verdict::Referenced);
        assert_eq!(judge(&loser, &standing(&[winner]), OURS), Verdict::Garbage);
    }

    /// Inkless #494: a crash between upload and commit left objects for ever.
    #[test]
    fn what_a_dead_session_uploaded_and_never_committed_goes() {
        let orphan = ObjectName::Segment(segment(6, 100, 0));
        assert_eq!(judge(&orphan, &standing(&[]), OURS), Verdict::Garbage);
        assert_eq!(
            judge(&orphan, &standing(&[orphan]), OURS),
            Verdict::Referenced,
            "unless it was committed"
        );
    }

    #[test]
    fn other_incarnations_and_journals_are_left_alone() {
        let name = SegmentName {
            incarnation: IncarnationNumber(2),
            ..segment(6, 1, 0)
        };
        assert_eq!(
            judge(&ObjectName::Segment(name), &standing(&[]), OURS),
            Verdict::NotOurs
        );
        let journal = ObjectName::Other {
            kind: ObjectKind::Order,
            name: segment(6, 1, 0),
        };
        assert_eq!(judge(&journal, &standing(&[]), OURS), Verdict::NotOurs);
    }
}
