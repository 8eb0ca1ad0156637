//! `esker topic`: creating, looking at, changing and deleting topics.
//!
//! Owns: flags, which columns there are.
//! Does not own: the requests (`esker_kafka_client`), how rows look (`rows`), `describe` (`describe`).

mod change;
mod describe;

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::bootstrap::BootstrapArgs;
use crate::process::block_on;
use crate::quantity;
use crate::rows::{FormArgs, Rows, number, or_nothing, text};

pub(crate) use self::change::confirm;

/// What can be done with topics.
#[derive(Debug, Subcommand)]
pub(crate) enum TopicCommand {
    /// Create a topic
    Create(change::CreateArgs),
    /// List topics
    List(ListArgs),
    /// Show partitions, offsets, sizes and configs of topics
    Describe(describe::DescribeArgs),
    /// Change configs of a topic, or give it more partitions
    Alter(change::AlterArgs),
    /// Delete topics with all their records
    Delete(change::DeleteArgs),
}

/// Which topics, and what of them.
#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    bootstrap: BootstrapArgs,
    #[command(flatten)]
    form: FormArgs,
    /// Say how many bytes each topic keeps; asks every broker
    #[arg(long)]
    sizes: bool,
    /// List topics of the cluster's own, too
    #[arg(long)]
    internal: bool,
}

/// Runs one of the commands.
pub(crate) fn run(command: TopicCommand) -> anyhow::Result<()> {
    block_on(async {
        match command {
            TopicCommand::Create(args) => change::create(args).await,
            TopicCommand::List(args) => list(args).await,
            TopicCommand::Describe(args) => describe::run(args).await,
            TopicCommand::Alter(args) => change::alter(args).await,
            TopicCommand::Delete(args) => change::delete(args).await,
        }
    })
}

/// A topic in a list.
#[derive(Serialize)]
struct Row {
    topic: String,
    id: String,
    partitions: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_bytes: Option<u64>,
}

async fn list(args: ListArgs) -> anyhow::Result<()> {
    let client = args.bootstrap.client();
    let mut topics = client.topics().await?;
    topics.retain(|topic| args.internal || !topic.internal);
    let sizes = if args.sizes {
        Some(client.sizes(&topics.iter().collect::<Vec<_>>()).await?)
    } else {
        None
    };
    let found: Vec<Row> = topics
        .into_iter()
        .map(|topic| Row {
            size_bytes: sizes.as_ref().map(|sizes| {
                let mine = sizes.iter().filter(|((name, _), _)| *name == topic.name);
                mine.map(|(_, bytes)| bytes.cast_unsigned()).sum()
            }),
            topic: topic.name,
            id: topic.id.to_string(),
            partitions: topic.partitions.len(),
        })
        .collect();
    let mut rows = Rows::stdout(args.form);
    if args.sizes {
        let columns = [text("TOPIC"), number("PARTITIONS"), number("SIZE"), text("ID")];
        rows.all(columns, &found, |row| {
            let size = or_nothing(row.size_bytes.map(quantity::bytes));
            [row.topic.clone(), row.partitions.to_string(), size, row.id.clone()]
        })?;
    } else {
        rows.all([text("TOPIC"), number("PARTITIONS"), text("ID")], &found, |row| {
            [row.topic.clone(), row.partitions.to_string(), row.id.clone()]
        })?;
    }
    if found.is_empty() && !rows.are_json() {
        rows.line("there are no topics; `esker topic create NAME` creates one")?;
    }
    Ok(())
}
