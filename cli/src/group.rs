//! `esker group`: looking at consumer groups, moving and deleting what they have committed.
//!
//! Owns: flags of `list` and `delete`, which columns there are.
//! Does not own: the requests (`esker_kafka_client`), how rows look (`rows`), `describe` and `reset` (a module each).

mod describe;
mod reset;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use esker_kafka::ErrorCode;
use esker_kafka_client::Client;
use serde::Serialize;

use crate::advice;
use crate::bootstrap::BootstrapArgs;
use crate::process::block_on;
use crate::rows::{FormArgs, Rows, number, text};
use crate::topic::confirm;

/// What can be done with groups.
#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// List groups
    List(ListArgs),
    /// Show members of groups, what they read, and how far behind they are
    Describe(describe::DescribeArgs),
    /// Move what a group without members has committed
    ResetOffsets(reset::ResetArgs),
    /// Delete groups without members, with what they have committed
    Delete(DeleteArgs),
}

/// Which cluster's groups.
#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    bootstrap: BootstrapArgs,
    #[command(flatten)]
    form: FormArgs,
}

/// Which groups are to go.
#[derive(Args, Debug)]
pub(crate) struct DeleteArgs {
    /// The groups
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,
    #[command(flatten)]
    bootstrap: BootstrapArgs,
    #[command(flatten)]
    form: FormArgs,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// Runs one of the commands.
pub(crate) fn run(command: GroupCommand) -> anyhow::Result<()> {
    block_on(async {
        match command {
            GroupCommand::List(args) => list(args).await,
            GroupCommand::Describe(args) => describe::run(args).await,
            GroupCommand::ResetOffsets(args) => reset::run(args).await,
            GroupCommand::Delete(args) => delete(args).await,
        }
    })
}

/// A group in a list.
#[derive(Serialize)]
struct Row {
    group: String,
    state: String,
    protocol_type: String,
    coordinator: i32,
}

async fn list(args: ListArgs) -> anyhow::Result<()> {
    let groups = args.bootstrap.client().groups().await?.into_iter();
    let found: Vec<Row> = groups
        .map(|(coordinator, group)| Row {
            group: group.group_id.into(),
            state: group.group_state.into(),
            protocol_type: group.protocol_type.into(),
            coordinator,
        })
        .collect();
    let mut rows = Rows::stdout(args.form);
    let columns = [text("GROUP"), text("STATE"), text("PROTOCOL"), number("COORDINATOR")];
    rows.all(columns, &found, |row| {
        let coordinator = row.coordinator.to_string();
        [
            row.group.clone(),
            row.state.clone(),
            row.protocol_type.clone(),
            coordinator,
        ]
    })?;
    if found.is_empty() && !rows.are_json() {
        rows.line("there are no groups; a consumer that joins one creates it")?;
    }
    Ok(())
}

#[derive(Serialize)]
struct Deleted<'a> {
    group: &'a str,
    done: &'static str,
}

async fn delete(args: DeleteArgs) -> anyhow::Result<()> {
    let client = args.bootstrap.client();
    if !args.yes {
        confirm(&format!("delete {} with what was committed?", args.groups.join(", ")))?;
    }
    for group in &args.groups {
        match client.delete_group(group).await {
            Ok(()) => {}
            Err(error) if error.is(ErrorCode::GroupIdNotFound) => return Err(unknown(&client, group).await),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot delete group {group}"));
            }
        }
        let mut rows = Rows::stdout(args.form);
        if rows.are_json() {
            rows.object(&Deleted { group, done: "deleted" })?;
        } else {
            rows.line(&format!("deleted {group}"))?;
        }
    }
    Ok(())
}

/// The error that a group does not exist, with the one that was probably meant; or that it is no classic one, which coordinators
/// say in the same words.
async fn unknown(client: &Client, name: &str) -> anyhow::Error {
    let groups = client.groups().await.unwrap_or_default();
    if let Some((_, group)) = groups.iter().find(|(_, group)| group.group_id == name) {
        let kind = &group.group_type;
        return anyhow::anyhow!("{name} is a group of type {kind}; only classic groups are shown and changed here");
    }
    let names = groups.iter().map(|(_, group)| group.group_id.as_str());
    anyhow::anyhow!(
        "there is no group {name}; {}",
        advice::alternative(name, names, "group")
    )
}
