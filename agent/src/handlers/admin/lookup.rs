//! Topics that a request names, with at most one read barrier for all of them.
//!
//! Owns: when the barrier is made, and that there is no second one.
//! Does not own: what a topic is (`crate::topics`).
//!
//! Invariants: LOG-6 (a topic is denied only after a read barrier that began after the request came).

use esker_kafka::{Str, TopicRef};

use crate::agent::{Absent, Agent};
use crate::topics::TopicView;

/// Finds the topics of one request.
pub(super) struct Lookup<'a> {
    agent: &'a Agent,
    /// Whether this agent may be behind the log, once a barrier was tried.
    behind: Option<bool>,
}

impl<'a> Lookup<'a> {
    /// For a request that has just come.
    pub(super) fn new(agent: &'a Agent) -> Self {
        Self { agent, behind: None }
    }

    /// Whether the log cannot be read up to its end, so that nothing may be denied.
    pub(super) async fn is_behind(&mut self) -> bool {
        if let Some(behind) = self.behind {
            return behind;
        }
        let behind = self.agent.barrier().await.is_err();
        self.behind = Some(behind);
        behind
    }

    /// A topic; the first that is not known costs a read barrier.
    ///
    /// # Errors
    /// See [`Absent`].
    pub(super) async fn topic(&mut self, name: &Str) -> Result<TopicView, Absent> {
        let named = TopicRef::Name(name.clone());
        if let Some(found) = self.agent.known_topic(&named) {
            return Ok(found);
        }
        if self.is_behind().await {
            return Err(Absent::MayBeBehind);
        }
        self.agent.known_topic(&named).ok_or(Absent::Certainly)
    }
}
