//! What can go wrong in a simulated bucket, and how often.
//!
//! Owns: plain data. The store draws from it; a test can also ask for one fault at one call.

use std::ops::Range;
use std::time::Duration;

use crate::random::{PerMillion, Random};

/// What happens to one call instead of the normal course.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The store answers an error and has done nothing: `Failed`.
    FailBefore,
    /// The effect took place, the answer is an error: `Unknown`. A read or list fails.
    FailAfter,
    /// The answer is `Unknown` and there never will be an effect.
    Vanish,
    /// The answer is `Unknown`, and the effect takes place this much later.
    Late(Duration),
    /// The effect takes place, but no answer comes: the call hangs, for an hour at most.
    LostAnswer,
    /// A read finds nothing though the object is there.
    Missing,
    /// A read gets its bytes with one bit flipped.
    BitFlip,
}

/// How often which fault happens, and how long things take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// [`Fault::FailBefore`], any call.
    pub fail_before: PerMillion,
    /// [`Fault::FailAfter`], any call.
    pub fail_after: PerMillion,
    /// [`Fault::Vanish`], create and delete.
    pub vanish: PerMillion,
    /// [`Fault::Late`], create and delete.
    pub late: PerMillion,
    /// How much later.
    pub late_by: Range<Duration>,
    /// [`Fault::LostAnswer`], any call.
    pub lost_answer: PerMillion,
    /// [`Fault::Missing`], reads.
    pub missing: PerMillion,
    /// [`Fault::BitFlip`], reads.
    pub bit_flip: PerMillion,
    /// How often a listing learns late of a create or delete.
    pub stale_list: PerMillion,
    /// How late it learns.
    pub stale_by: Range<Duration>,
    /// How long calls take.
    pub latency: Latency,
}

/// How long a call takes, one way; there and back are drawn apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Mostly.
    pub usual: Range<Duration>,
    /// How often it takes longer.
    pub tail: PerMillion,
    /// How long then.
    pub tail_takes: Range<Duration>,
}

impl Latency {
    /// No time at all.
    pub const NONE: Self = Self {
        usual: Duration::ZERO..Duration::ZERO,
        tail: PerMillion(0),
        tail_takes: Duration::ZERO..Duration::ZERO,
    };

    pub(super) fn draw(&self, random: &mut Random) -> Duration {
        let (usual, tail) = (random.duration(&self.usual), random.duration(&self.tail_takes));
        if random.happens(self.tail) { tail } else { usual }
    }
}

impl Faults {
    /// A store in which nothing goes wrong and nothing takes time.
    pub const NONE: Self = Self {
        fail_before: PerMillion(0),
        fail_after: PerMillion(0),
        vanish: PerMillion(0),
        late: PerMillion(0),
        late_by: Duration::ZERO..Duration::ZERO,
        lost_answer: PerMillion(0),
        missing: PerMillion(0),
        bit_flip: PerMillion(0),
        stale_list: PerMillion(0),
        stale_by: Duration::ZERO..Duration::ZERO,
        latency: Latency::NONE,
    };

    /// A bad day: everything that object stores were seen to do, each often enough to be met within seconds. Reads are
    /// never wrong, only late or refused.
    pub const STORMY: Self = Self {
        fail_before: PerMillion(20_000),
        fail_after: PerMillion(20_000),
        vanish: PerMillion(10_000),
        late: PerMillion(10_000),
        late_by: Duration::from_secs(1)..Duration::from_mins(10),
        lost_answer: PerMillion(2_000),
        missing: PerMillion(0),
        bit_flip: PerMillion(0),
        stale_list: PerMillion(50_000),
        stale_by: Duration::from_millis(100)..Duration::from_secs(30),
        latency: Latency {
            usual: Duration::from_millis(5)..Duration::from_millis(80),
            tail: PerMillion(10_000),
            tail_takes: Duration::from_secs(1)..Duration::from_secs(10),
        },
    };
}

/// Which call it is; decides which faults can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// `create`
    Create,
    /// `read`
    Read,
    /// `list`
    List,
    /// `delete`
    Delete,
}

impl Call {
    fn writes(self) -> bool {
        matches!(self, Self::Create | Self::Delete)
    }
}

impl Faults {
    /// Draws what happens to a call: always the same number of random numbers, so that a change of one chance does not
    /// shift all that comes after.
    pub(super) fn draw(&self, call: Call, random: &mut Random) -> Option<Fault> {
        let late_by = random.duration(&self.late_by);
        let candidates = [
            (self.fail_before, Fault::FailBefore, true),
            (self.fail_after, Fault::FailAfter, true),
            (self.vanish, Fault::Vanish, call.writes()),
            (self.late, Fault::Late(late_by), call.writes()),
            (self.lost_answer, Fault::LostAnswer, true),
            (self.missing, Fault::Missing, call == Call::Read),
            (self.bit_flip, Fault::BitFlip, call == Call::Read),
        ];
        let mut drawn = None;
        for (chance, fault, possible) in candidates {
            if random.happens(chance) && possible && drawn.is_none() {
                drawn = Some(fault);
            }
        }
        drawn
    }
}
