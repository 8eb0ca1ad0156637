//! The duties of this process: which it may take, which it holds.
//!
//! Owns: standing for a duty when there is work to do, not too often, and knowing when it went with its session.
//! Does not own: the election (`esker_metadata::log`), the work.
//!
//! Invariants: what is published compares the duty's key, so believing too long that one leads costs a round, nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use esker_metadata::checkpoint::LiveSession;
use esker_metadata::keys::leader::Duty;
use esker_metadata::log::{Cluster, Elected, Leadership, stand};
use esker_metadata::store::MetadataError;
use tokio::time::Instant;

/// Somebody else does it: when this process asks again, if there still is something to do; twice as long each time,
const ASK_AGAIN_MIN: Duration = Duration::from_secs(1);
/// up to this.
const ASK_AGAIN_MAX: Duration = Duration::from_secs(10);

/// Duties of one process.
#[derive(Debug)]
pub struct Duties {
    /// Those that it may take.
    takes: Vec<Duty>,
    held: BTreeMap<Duty, Leadership>,
    /// When it asks next, and how long it waits after that.
    ask_at: BTreeMap<Duty, (Instant, Duration)>,
}

impl Duties {
    /// None held yet.
    #[must_use]
    pub fn new(takes: Vec<Duty>) -> Self {
        Self {
            takes,
            held: BTreeMap::new(),
            ask_at: BTreeMap::new(),
        }
    }

    /// Whether it may take a duty at all.
    #[must_use]
    pub fn takes(&self, duty: Duty) -> bool {
        self.takes.contains(&duty)
    }

    /// The duty, if this process holds it or gets it now. To be called only when there is something to do.
    ///
    /// # Errors
    /// The coordination store.
    pub async fn lead(
        &mut self,
        cluster: &Cluster,
        duty: Duty,
        session: &LiveSession,
    ) -> Result<Option<Leadership>, MetadataError> {
        if let Some(held) = self.held.get(&duty).filter(|held| held.session() == session.id) {
            return Ok(Some(held.clone()));
        }
        self.held.remove(&duty);
        let now = Instant::now();
        let (at, wait) = self.ask_at.get(&duty).copied().unwrap_or((now, ASK_AGAIN_MIN));
        if !self.takes(duty) || now < at {
            return Ok(None);
        }
        self.ask_at.insert(duty, (now + wait, (2 * wait).min(ASK_AGAIN_MAX)));
        match stand(cluster, duty, session).await? {
            Elected::Leads(leads) => {
                tracing::info!(?duty, session = %session.id, "takes a duty");
                self.held.insert(duty, leads.clone());
                self.ask_at.remove(&duty);
                Ok(Some(leads))
            }
            Elected::Follows => Ok(None),
        }
    }

    /// The duty may be lost: ask before the next work.
    pub fn doubt(&mut self, duty: Duty) {
        if self.held.remove(&duty).is_some() {
            self.ask_at.remove(&duty);
        }
    }

    /// What is held, to be resigned.
    pub fn take_held(&mut self) -> Vec<Leadership> {
        std::mem::take(&mut self.held).into_values().collect()
    }
}
