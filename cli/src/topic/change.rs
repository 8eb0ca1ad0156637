//! `esker topic create|alter|delete`.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use anyhow::Context as _;
use clap::Args;
use esker_kafka::ErrorCode;
use esker_kafka::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use esker_kafka::messages::incremental_alter_configs_request::AlterableConfig;
use esker_kafka_client::{Client, Error};
use serde::Serialize;

use crate::bootstrap::BootstrapArgs;
use crate::quantity;
use crate::rows::{FormArgs, Rows};
use crate::{UsageError, advice};

/// Kafka's numbers for what happens to a config.
const SET: i8 = 0;
const DELETE: i8 = 1;
/// Let the cluster decide.
const DEFAULT: i32 = -1;

/// A config and its value.
type Config = (String, String);

fn config(text: &str) -> Result<Config, String> {
    let (name, value) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or("NAME=VALUE is needed")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// A topic to be created.
#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// Its name
    #[arg(value_name = "TOPIC")]
    topic: String,
    #[command(flatten)]
    bootstrap: BootstrapArgs,
    #[command(flatten)]
    form: FormArgs,
    /// How many partitions it has [default: what num.partitions of the cluster says]
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// A config of the topic, as in --config retention.ms=3600000; may be repeated
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = config)]
    config: Vec<Config>,
    /// Leave a topic of this name as it is, and succeed
    #[arg(long)]
    if_not_exists: bool,
}

/// Changes to a topic.
#[derive(Args, Debug)]
#[group(id = "change", required = true, multiple = true)]
pub(crate) struct Changes {
    /// How many partitions it is to have; never fewer than now
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// Set a config, as in --config retention.ms=3600000; may be repeated
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = config)]
    config: Vec<Config>,
    /// Go back to the default of a config; may be repeated
    #[arg(long, value_name = "NAME")]
    delete_config: Vec<String>,
}

/// What is to be changed.
#[derive(Args, Debug)]
pub(crate) struct AlterArgs {
    /// The topic
    #[arg(value_name = "TOPIC")]
    topic: String,
    #[command(flatten)]
    bootstrap: BootstrapArgs,
    #[command(flatten)]
    form: FormArgs,
    #[command(flatten)]
    changes: Changes,
}

/// What is to go.
#[derive(Args, Debug)]
pub(crate) struct DeleteArgs {
    /// The topics
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    #[command(flatten)]
    bootstrap: BootstrapArgs,
    #[command(flatten)]
    form: FormArgs,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Succeed if a topic does not exist
    #[arg(long)]
    if_exists: bool,
}

/// What became of a topic.
#[derive(Serialize)]
struct Done<'a> {
    topic: &'a str,
    done: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partitions: Option<i32>,
}

impl Done<'_> {
    fn print(&self, form: FormArgs) -> std::io::Result<()> {
        let mut rows = Rows::stdout(form);
        if form.json {
            return rows.object(self);
        }
        let mut line = format!("{} {}", self.done, self.topic);
        if let Some(partitions) = self.partitions {
            let counted = quantity::counted(u64::from(partitions.cast_unsigned()), "partition");
            line = format!("{line} ({counted})");
        }
        rows.line(&line)
    }
}

pub(super) async fn create(args: CreateArgs) -> anyhow::Result<()> {
    let client = args.bootstrap.client();
    let configs = args.config.into_iter().map(|(name, value)| CreatableTopicConfig {
        name: name.into(),
        value: Some(value.into()),
    });
    let wanted = CreatableTopic {
        name: args.topic.as_str().into(),
        num_partitions: args.partitions.unwrap_or(DEFAULT),
        replication_factor: -1,
        configs: configs.collect(),
        ..CreatableTopic::default()
    };
    let topic = args.topic.as_str();
    let done = match client.create_topic(wanted).await {
        Ok(created) => Done {
            topic,
            done: "created",
            id: Some(created.topic_id.to_string()),
            partitions: (created.num_partitions > 0).then_some(created.num_partitions),
        },
        Err(error) if args.if_not_exists && error.is(ErrorCode::TopicAlreadyExists) => Done {
            topic,
            done: "exists",
            id: None,
            partitions: None,
        },
        Err(error) => return Err(anyhow::Error::from(error).context(format!("cannot create topic {topic}"))),
    };
    done.print(args.form).map_err(Into::into)
}

pub(super) async fn alter(args: AlterArgs) -> anyhow::Result<()> {
    let client = args.bootstrap.client();
    let topic = args.topic.as_str();
    let set = args.changes.config.into_iter().map(|(name, value)| AlterableConfig {
        name: name.into(),
        config_operation: SET,
        value: Some(value.into()),
    });
    let delete = args.changes.delete_config.into_iter().map(|name| AlterableConfig {
        name: name.into(),
        config_operation: DELETE,
        value: None,
    });
    let configs: Vec<AlterableConfig> = set.chain(delete).collect();
    // A topic is not created by asking for it; whoever mistypes one learns so before anything is changed.
    known(&client, topic).await?;
    if !configs.is_empty() {
        let altered = client.alter_topic_configs(topic, configs).await;
        altered.with_context(|| format!("cannot change configs of topic {topic}"))?;
    }
    if let Some(partitions) = args.changes.partitions {
        let more = client.create_partitions(topic, partitions).await;
        more.with_context(|| format!("cannot give topic {topic} {partitions} partitions"))?;
    }
    let done = Done {
        topic,
        done: "altered",
        id: None,
        partitions: args.changes.partitions,
    };
    done.print(args.form).map_err(Into::into)
}

pub(super) async fn delete(args: DeleteArgs) -> anyhow::Result<()> {
    let client = args.bootstrap.client();
    let mut chosen = Vec::new();
    for topic in &args.topics {
        match client.topic(topic, false).await {
            Ok(_) => chosen.push(topic.as_str()),
            Err(error) if args.if_exists && is_unknown(&error) => {}
            Err(error) => return Err(explained(&client, topic, error).await),
        }
    }
    if !args.yes && !chosen.is_empty() {
        confirm(&format!("delete {} with all records?", chosen.join(", ")))?;
    }
    for topic in chosen {
        let deleted = client.delete_topic(topic).await;
        deleted.with_context(|| format!("cannot delete topic {topic}"))?;
        let done = Done {
            topic,
            done: "deleted",
            id: None,
            partitions: None,
        };
        done.print(args.form)?;
    }
    Ok(())
}

async fn known(client: &Client, topic: &str) -> anyhow::Result<()> {
    match client.topic(topic, false).await {
        Ok(_) => Ok(()),
        Err(error) => Err(explained(client, topic, error).await),
    }
}

async fn explained(client: &Client, topic: &str, error: Error) -> anyhow::Error {
    if is_unknown(&error) {
        return advice::unknown_topic(client, topic).await;
    }
    anyhow::Error::from(error).context(format!("cannot look up topic {topic}"))
}

fn is_unknown(error: &Error) -> bool {
    error.is(ErrorCode::UnknownTopicOrPartition) || error.is(ErrorCode::InvalidTopic)
}

/// Asks on the terminal; without one, it has to be said beforehand.
pub(crate) fn confirm(question: &str) -> anyhow::Result<()> {
    let (input, mut output) = (std::io::stdin(), std::io::stderr());
    if !input.is_terminal() || !output.is_terminal() {
        let refusal = format!("{question} say --yes: there is no terminal to ask on");
        return Err(UsageError(refusal).into());
    }
    write!(output, "{question} [y/N] ")?;
    let mut answer = String::new();
    input.lock().read_line(&mut answer)?;
    anyhow::ensure!(matches!(answer.trim(), "y" | "Y" | "yes"), "nothing was done");
    Ok(())
}
