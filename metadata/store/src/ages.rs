//! How long ago the log was where: what a process has seen of it, by its own monotonic clock.
//!
//! Owns: a bounded number of samples, and the index that is certainly as old as one asks.
//! Does not own: what is done with what is old (compaction expires producers, the agent offsets of groups).
//!
//! Invariants: a wrong clock can only delay (design section 2): a process knows of no age before it has watched for that
//! long, and answers with an index that it saw at least that long ago.

use std::collections::VecDeque;
use std::time::Duration;

use esker_segment::id::LogIndex;
use tokio::time::Instant;

/// Samples that are kept: an age is known to about this part of the span.
const SAMPLES_MAX: u32 = 256;

/// Where the log was, over the last `span`.
#[derive(Clone, Debug)]
pub struct Ages {
    span: Duration,
    samples: VecDeque<(Instant, LogIndex)>,
}

impl Ages {
    /// Ages up to a span, none of which is known yet.
    #[must_use]
    pub const fn new(span: Duration) -> Self {
        Self {
            span,
            samples: VecDeque::new(),
        }
    }

    /// Notes where the log is. To be called often; it keeps few samples.
    pub fn observe(&mut self, now: Instant, index: LogIndex) {
        let step = self.span / SAMPLES_MAX;
        let fresh = self
            .samples
            .back()
            .is_some_and(|(at, _)| now.duration_since(*at) < step);
        if !fresh {
            self.samples.push_back((now, index));
        }
        // The newest of those beyond the span says what is that old.
        while self
            .samples
            .get(1)
            .is_some_and(|(at, _)| now.duration_since(*at) >= self.span)
        {
            self.samples.pop_front();
        }
    }

    /// The index that the log had reached a span ago or earlier. What was committed at or below it is at least that old.
    #[must_use]
    pub fn reached_a_span_ago(&self, now: Instant) -> Option<LogIndex> {
        let oldest = self.samples.front();
        oldest
            .filter(|(at, _)| now.duration_since(*at) >= self.span)
            .map(|(_, index)| *index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_index_is_as_old_as_it_was_seen_to_be() {
        let mut ages = Ages::new(Duration::from_secs(1_000));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for second in 0..3_000 {
            ages.observe(at(second), LogIndex(second));
            let known = ages.reached_a_span_ago(at(second));
            if second < 1_000 {
                assert_eq!(known, None, "nobody has watched for that long");
            } else {
                let age = second - known.unwrap().0;
                assert!((1_000..=1_010).contains(&age), "{age}");
            }
        }
        assert!(ages.samples.len() <= 260);
        // Nothing is seen for long: the last that was seen is old then, and nothing newer.
        assert_eq!(
            ages.reached_a_span_ago(at(9_000)),
            ages.samples.front().map(|(_, index)| *index)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_after_a_silence_is_not_old() {
        let mut ages = Ages::new(Duration::from_secs(10));
        let start = Instant::now();
        ages.observe(start, LogIndex(5));
        ages.observe(start + Duration::from_secs(100), LogIndex(50));
        assert_eq!(
            ages.reached_a_span_ago(start + Duration::from_secs(101)),
            Some(LogIndex(5))
        );
        ages.observe(start + Duration::from_secs(111), LogIndex(51));
        assert_eq!(
            ages.reached_a_span_ago(start + Duration::from_secs(111)),
            Some(LogIndex(50))
        );
    }
}
