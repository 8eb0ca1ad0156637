//! What goes on beside serving: checkpoints and truncation, more often than in production.
//!
//! Owns: when there is one.
//! Does not own: how it is done (`esker_metadata::checkpoint`, `esker_metadata::log`).

use std::sync::Arc;
use std::time::Duration;

use esker_agent::agent::Agent;
use esker_metadata::checkpoint::{self, LiveSession, ObjectWriter};
use esker_metadata::keys::session::SessionInfo;
use esker_metadata::log::{Cluster, HistoryKept, RootOutcome, Session, Truncated, Truncation, read_root};

use crate::dice::Dice;
use crate::trace::Trace;

/// History that the store keeps for watches that lag.
const KEPT: HistoryKept = HistoryKept(Duration::from_secs(2));

/// Takes checkpoints until it is dropped. Whatever fails is tried again with a fresh session.
pub(crate) async fn run(cluster: Cluster, agent: Arc<Agent>, mut dice: Dice, trace: Trace) {
    let mut truncation = Truncation::new(agent.follower.clone(), KEPT);
    loop {
        dice.pause_ms(100..1_500).await;
        if let Err(why) = rounds(&cluster, &agent, &mut truncation, &mut dice, &trace).await {
            trace.note(format_args!("checkpoint failed: {why}"));
        }
    }
}

async fn rounds(
    cluster: &Cluster,
    agent: &Agent,
    truncation: &mut Truncation,
    dice: &mut Dice,
    trace: &Trace,
) -> Result<(), String> {
    let describe = |error: &dyn std::fmt::Display| error.to_string();
    let session = Session::open(cluster, |_| SessionInfo::default(), Duration::from_secs(5)).await;
    let session = session.map_err(|error| describe(&error))?;
    let nonce = dice.count(0..u32::MAX);
    let writer = ObjectWriter::begin(cluster, LiveSession::of(&session), nonce).await;
    let mut writer = writer.map_err(|error| describe(&error))?;
    loop {
        let seen = read_root(cluster).await.map_err(|error| describe(&error))?;
        let written = checkpoint::write(cluster, &agent.objects, &agent.replica, seen.as_ref(), &mut writer).await;
        let published = match written.map_err(|error| describe(&error))? {
            None => seen,
            Some(written) => {
                let outcome = writer.publish(cluster, seen.as_ref(), written.root).await;
                match outcome.map_err(|error| describe(&error))? {
                    RootOutcome::Published(published) => {
                        trace.note(format_args!("checkpoint at {}", published.root.index));
                        Some(*published)
                    }
                    lost @ (RootOutcome::Raced | RootOutcome::NotLeading) => return Err(format!("{lost:?}")),
                }
            }
        };
        if let Some(root) = published {
            let truncated = truncation.truncate(&root).await.map_err(|error| describe(&error))?;
            if let Truncated::Done { records } = truncated {
                trace.note(format_args!("truncated {records} records"));
            }
            truncation.compact().await.map_err(|error| describe(&error))?;
        }
        dice.pause_ms(200..1_500).await;
    }
}
