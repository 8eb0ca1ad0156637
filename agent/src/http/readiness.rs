//! Whether this process wants traffic, and if not, why.
//!
//! Owns: the three stages and their order; what is wrong meanwhile.
//! Does not own: what has to be true for each (the start and the drain of the node), noticing what is wrong.
//!
//! Invariants: draining is final.

use std::collections::BTreeMap;
use std::fmt;

use tokio::sync::watch;

/// How far the process has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Not yet ready.
    Starting {
        /// What it is busy with.
        step: &'static str,
    },
    /// Send traffic.
    Ready,
    /// Finishing what it has; send no more.
    Draining,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting { step } => write!(f, "not ready: {step}"),
            Self::Ready => f.write_str("ready"),
            Self::Draining => f.write_str("not ready: draining"),
        }
    }
}

/// A shared view of the stage.
#[derive(Clone, Debug)]
pub struct Readiness {
    stage: watch::Sender<Stage>,
    troubles: watch::Sender<BTreeMap<&'static str, String>>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self {
            stage: watch::Sender::new(Stage::Starting { step: "starting" }),
            troubles: watch::Sender::new(BTreeMap::new()),
        }
    }
}

impl Readiness {
    /// Says what the start is busy with.
    pub fn starting(&self, step: &'static str) {
        self.advance(Stage::Starting { step });
    }

    /// Everything is up.
    pub fn ready(&self) {
        self.advance(Stage::Ready);
    }

    /// The process is about to end.
    pub fn draining(&self) {
        self.advance(Stage::Draining);
    }

    /// Something is wrong, or (`None`) not any more.
    pub fn trouble(&self, what: &'static str, why: Option<String>) {
        self.troubles.send_if_modified(|troubles| match why {
            Some(why) => troubles.insert(what, why.clone()) != Some(why),
            None => troubles.remove(what).is_some(),
        });
    }

    /// Everything that is wrong now, a line each; empty if nothing is.
    #[must_use]
    pub fn troubles(&self) -> String {
        let troubles = self.troubles.borrow();
        troubles
            .iter()
            .map(|(what, why)| format!("not ready: {what}: {why}\n"))
            .collect()
    }

    /// Where it stands now.
    #[must_use]
    pub fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    fn advance(&self, next: Stage) {
        self.stage.send_if_modified(|stage| {
            let allowed = *stage != Stage::Draining && *stage != next;
            if allowed {
                *stage = next;
            }
            allowed
        });
    }
}
