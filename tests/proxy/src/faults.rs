//! What can go wrong between a client and its bucket, and when.
//!
//! Owns: plain data, as JSON on the admin port; the draw for one request.
//! Does not own: doing it (`serve`).
//!
//! Invariants: the same requests in the same order with the same seed meet the same faults.

use std::time::Duration;

use esker_storage::random::{PerMillion, Random};
use serde::{Deserialize, Serialize};

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "kebab-case")]
pub enum Fault {
    /// Takes this much longer. May come together with any other.
    Delay {
        /// At least.
        from_millis: u64,
        /// Less than this, or exactly `from_millis` if it is not more.
        to_millis: u64,
    },
    /// Answered with this status; the server hears nothing of it. 503 is `SlowDown`.
    ErrorBefore {
        /// 400 to 599.
        status: u16,
    },
    /// The server does it and the client gets this status.
    ErrorAfter {
        /// 400 to 599.
        status: u16,
    },
    /// The server does it and the connection is closed without an answer.
    LostAnswer,
    /// The connection is closed without an answer, and the server is told this much later.
    Late {
        /// How much later.
        millis: u64,
    },
    /// The connection is closed without an answer and the server hears nothing of it.
    Reset,
    /// Nothing is ever answered and the server hears nothing of it.
    Hang,
    /// The answer ends in the middle of its body.
    Truncate,
    /// One byte in the middle of the answer's body is another.
    Corrupt,
    /// Answered as if done, and not done: a store that loses what it acknowledged.
    Pretend,
    /// A listing shows nothing.
    EmptyList,
    /// A second PUT to a key is answered with 409.
    RefuseOverwrite,
    /// A body of more bytes than this is answered with 413.
    TooLarge {
        /// The most that is let through.
        bytes: u64,
    },
    /// The store's clock, as its answers have it, is ahead by so much (behind, if negative).
    Clock {
        /// How much.
        seconds: i64,
    },
}

/// A fault, to which requests it happens, and how often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// What.
    #[serde(flatten)]
    pub fault: Fault,
    /// To requests with these methods: `PUT`, `GET`, `DELETE`, `HEAD`; a listing is `LIST`. Empty: all.
    #[serde(default)]
    pub verbs: Vec<String>,
    /// To requests whose path has this in it.
    #[serde(default)]
    pub path_has: String,
    /// How often, in a million.
    #[serde(default = "always")]
    pub per_million: u32,
    /// So many times and then no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
}

fn always() -> u32 {
    1_000_000
}

impl Rule {
    /// This fault to every request with one of these methods.
    #[must_use]
    pub fn of(fault: Fault, verbs: &[&str]) -> Self {
        Self {
            fault,
            verbs: verbs.iter().map(|&verb| verb.to_owned()).collect(),
            path_has: String::new(),
            per_million: always(),
            times: None,
        }
    }

    /// So often only.
    #[must_use]
    pub fn per_million(mut self, chance: u32) -> Self {
        self.per_million = chance;
        self
    }

    /// So many times only.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }
}

/// What was drawn for one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Course {
    pub(crate) delay: Duration,
    /// At most one that decides over the request, and any number that only change its answer.
    pub(crate) faults: Vec<Fault>,
}

/// The rules in force, and the dice.
#[derive(Debug)]
pub(crate) struct Plan {
    rules: Vec<Rule>,
    random: Random,
}

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rules: Vec::new(),
            random: Random::new(seed),
        }
    }

    pub(crate) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    pub(crate) fn set(&mut self, rules: Vec<Rule>) {
        self.rules = rules;
    }

    pub(crate) fn draw(&mut self, verb: &str, path: &str) -> Course {
        let mut course = Course::default();
        for rule in &mut self.rules {
            let meant = rule.verbs.is_empty() || rule.verbs.iter().any(|one| one == verb);
            if !meant || !path.contains(&rule.path_has) || rule.times == Some(0) {
                continue;
            }
            if !self.random.happens(PerMillion(rule.per_million)) {
                continue;
            }
            if let Some(times) = &mut rule.times {
                *times -= 1;
            }
            if let Fault::Delay { from_millis, to_millis } = rule.fault {
                let range = Duration::from_millis(from_millis)..Duration::from_millis(to_millis);
                course.delay += self.random.duration(&range);
            } else {
                course.faults.push(rule.fault);
            }
        }
        course
    }
}

#[cfg(test)]
mod tests {
    //! Rules as people write them, and the dice.

    use std::time::Duration;

    use super::{Fault, Plan, Rule};

    #[test]
    fn rules_are_written_in_json() {
        let text = r#"[{"fault":"delay","from_millis":5,"to_millis":9,"verbs":["PUT"],"per_million":1000},
            {"fault":"lost-answer","times":3},{"fault":"error-after","status":500,"path_has":"/c/"}]"#;
        let rules: Vec<Rule> = serde_json::from_str(text).unwrap();
        assert_eq!(rules[1], Rule::of(Fault::LostAnswer, &[]).times(3));
        assert_eq!(rules[0].per_million, 1000);
        let again: Vec<Rule> = serde_json::from_str(&serde_json::to_string(&rules).unwrap()).unwrap();
        assert_eq!(again, rules);
        assert!(serde_json::from_str::<Rule>(r#"{"fault":"explode"}"#).is_err());
    }

    #[test]
    fn the_same_seed_gives_the_same_faults_and_times_are_counted() {
        let draws = |seed| {
            let mut plan = Plan::new(seed);
            let slow = Fault::Delay {
                from_millis: 1,
                to_millis: 100,
            };
            plan.set(vec![
                Rule::of(slow, &[]),
                Rule::of(Fault::Reset, &["PUT"]).per_million(300_000),
                Rule::of(Fault::Hang, &["GET"]).times(2),
            ]);
            (0..100)
                .map(|nth| plan.draw(if nth % 2 == 0 { "PUT" } else { "GET" }, "/b/k"))
                .collect::<Vec<_>>()
        };
        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
        let all = draws(1);
        assert!(all.iter().all(|course| course.delay < Duration::from_millis(100)));
        let hangs = all.iter().filter(|course| course.faults.contains(&Fault::Hang)).count();
        let resets = all
            .iter()
            .filter(|course| course.faults.contains(&Fault::Reset))
            .count();
        assert_eq!(hangs, 2);
        assert!((5..25).contains(&resets), "{resets}");
    }
}
