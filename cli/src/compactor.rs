//! Compaction inside `esker dev`: it works on the agent's own fold, in the agent's own session.
//!
//! Owns: the seams of `esker_compaction` over the agent.
//! Does not own: compaction.

use std::sync::Arc;

use async_trait::async_trait;
use esker_agent::agent::Agent;
use esker_agent::writer::LogWriter;
use esker_compaction::seams::{LogAccess, NotApplied, TopicPolicy};
use esker_compaction::service::{Compaction, Parts};
use esker_compaction::settings::Settings;
use esker_metadata::checkpoint::LiveSession;
use esker_model::EntryVerdict;
use esker_model::entry::Entry;
use esker_segment::id::{Timestamp, TopicId};

struct AgentLog(LogWriter);

#[async_trait]
impl LogAccess for AgentLog {
    fn session(&self) -> Option<LiveSession> {
        self.0.session()
    }

    async fn propose(&self, entries: Vec<Entry>) -> Result<Vec<EntryVerdict>, NotApplied> {
        self.0
            .propose(entries)
            .await
            .map_err(|error| NotApplied(error.to_string()))
    }
}

/// Compaction for the agent of this process.
pub(crate) fn beside(agent: &Arc<Agent>) -> Compaction {
    let catalog = Arc::clone(&agent.catalog);
    let clock = Arc::clone(&agent.clock);
    let policy = move |topic: TopicId| {
        let settings = catalog.settings(topic);
        TopicPolicy {
            retention: settings.retention,
            retention_bytes: settings.retention_bytes,
            deletes: settings.cleanup.deletes(),
            compacts: settings.cleanup.compacts(),
        }
    };
    let parts = Parts {
        cluster: agent.follower.cluster().clone(),
        log: agent.follower.clone(),
        replica: Arc::clone(&agent.replica),
        merged: agent.merged.clone(),
        access: Arc::new(AgentLog(agent.log.clone())),
        policies: Arc::new(policy),
        clock: Arc::new(move || Timestamp(clock.now_ms())),
        random: Arc::clone(&agent.random),
    };
    let ours = &agent.settings;
    let mut settings = Settings::local();
    settings.checkpoint.commits_max = u64::from(ours.checkpoint.commits);
    settings.checkpoint.interval = ours.checkpoint.interval;
    settings.retention.interval = ours.upkeep.retention_check_interval;
    settings.garbage.grace = ours.upkeep.gc_grace;
    settings.expiry.producers_after = ours.producers.id_expiration;
    settings.expiry.producer_windows_max = usize::try_from(ours.producers.state_max).unwrap_or(usize::MAX);
    Compaction::new(parts, settings)
}
