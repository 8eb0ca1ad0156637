//! `esker consume`: records of topics on stdout.
//!
//! Owns: flags, when reading is done.
//! Does not own: where it begins (`places`), how records look (`output`), reading (`esker_kafka_client`).

mod format;
mod from;
mod membership;
mod output;
mod places;

use clap::Args;
use esker_kafka_client::{Client, Decoder, FetchSettings, Fetched, Fetcher};
use tokio_util::sync::CancellationToken;

use crate::bootstrap::BootstrapArgs;
use crate::process::block_on;
use crate::shutdown;

use self::format::Format;
use self::from::From;
use self::output::Output;
use self::places::Places;

/// Print records of topics.
///
/// It ends where the topics ended when it began; with --follow it goes on until Ctrl-C or --count. Keys and values are printed as they are, a
/// value a line; `esker help formats` tells of --format and --json.
#[derive(Args, Debug)]
pub(crate) struct ConsumeArgs {
    /// The topics
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    #[command(flatten)]
    bootstrap: BootstrapArgs,
    /// Where to begin in each partition: earliest, latest, an offset, -N for the last N records, a time in UTC
    /// (2026-11-23T07:00:00Z), or how long ago (5m)
    #[arg(
        long,
        short = 'o',
        value_name = "PLACE",
        allow_hyphen_values = true,
        default_value = "earliest"
    )]
    from: From,
    /// Only these partitions; may be repeated
    #[arg(long, short, value_name = "N", value_delimiter = ',')]
    partition: Vec<i32>,
    /// Read as a member of this group: its members divide the partitions, and it goes on where it stopped; waits for new records
    ///
    /// --from says where it begins where the group has not committed anything, or an offset that is not there any more. What was printed is committed within a second, and
    /// at the end.
    #[arg(long, short, value_name = "GROUP", conflicts_with = "partition")]
    group: Option<String>,
    /// End after so many records
    #[arg(long, short, value_name = "N")]
    count: Option<u64>,
    /// Wait for new records
    #[arg(long, short)]
    follow: bool,
    /// Leave out what transactions have not committed
    #[arg(long)]
    read_committed: bool,
    /// What to print for each record, with kcat's placeholders: %s value, %k key, %t topic, %p partition, %o offset, %T time, %h
    /// headers …
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "%s\\n",
        hide_default_value = true,
        conflicts_with = "json"
    )]
    format: Format,
    /// Print each record as a JSON object
    #[arg(long)]
    json: bool,
    /// What to print for a key or value that is null [default: nothing]
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    null: String,
}

/// Reads until there is no more, enough was printed, or a signal comes.
pub(crate) fn run(args: &ConsumeArgs) -> anyhow::Result<()> {
    block_on(async {
        let stop = CancellationToken::new();
        shutdown::on_signals(stop.clone())?;
        let client = args.bootstrap.client();
        if let Some(group) = &args.group {
            return membership::consume(args, group, &client, &stop).await;
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => Ok(()),
            done = consume(args, &client) => done,
        }
    })
}

async fn consume(args: &ConsumeArgs, client: &Client) -> anyhow::Result<()> {
    let mut places = Places::find(client, args).await?;
    let mut reader = Reader::new(client, args);
    reader.fetcher.assign(places.starts());
    while !places.is_done() {
        let fetched = reader.next().await?;
        let next = fetched.next;
        let of = fetched.of.clone();
        if !reader.print(fetched, places.end(&of))?.more {
            break;
        }
        if places.reached(&of, next) {
            reader.fetcher.drop_partition(&of);
        }
    }
    reader.output.flush()?;
    Ok(())
}

/// Fetches and prints.
struct Reader {
    fetcher: Fetcher,
    output: Output,
    left: Option<u64>,
}

impl Reader {
    fn new(client: &Client, args: &ConsumeArgs) -> Self {
        let settings = FetchSettings {
            read_committed: args.read_committed,
            ..FetchSettings::default()
        };
        Self {
            fetcher: Fetcher::new(client.clone(), settings),
            output: Output::new(args),
            left: args.count,
        }
    }

    /// What comes next; whatever was printed is seen before it is waited for.
    async fn next(&mut self) -> anyhow::Result<Fetched> {
        if let Some(fetched) = self.fetcher.take_ready() {
            return Ok(fetched);
        }
        self.output.flush()?;
        Ok(self.fetcher.next().await?)
    }

    /// Prints the records below `end`, as many as are wanted.
    fn print(&mut self, fetched: Fetched, end: i64) -> anyhow::Result<Printed> {
        let of = fetched.of.clone();
        let mut next = fetched.from;
        let after = fetched.next;
        let mut records = Decoder::new(fetched);
        loop {
            if self.left == Some(0) {
                return Ok(Printed { next, more: false });
            }
            let Some(record) = records.next_record()?.filter(|record| record.offset < end) else {
                return Ok(Printed {
                    next: after,
                    more: true,
                });
            };
            self.output.write(&of.topic, of.partition, &record)?;
            next = record.offset + 1;
            self.left = self.left.map(|left| left - 1);
        }
    }
}

/// What came of printing.
struct Printed {
    /// Where reading goes on.
    next: i64,
    /// False if that was enough.
    more: bool,
}
