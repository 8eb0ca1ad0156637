//! What processes that serve can be told: listeners, stores, settings.
//!
//! Owns: flags of `esker dev` and `esker agent`, and of settings; which combinations are refused.
//! Does not own: settings (`esker_agent::settings`), acting on any of it.

use std::net::ToSocketAddrs as _;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use esker_agent::settings::{Assignment, Origin, Profile, Settings};
use esker_kafka_client::HostPort;

use crate::UsageError;
use crate::agent::AgentOptions;
use crate::config::{self, Said};
use crate::dev::DevOptions;
use crate::listen::Listen;
use crate::process::Serving;

/// The node id of a process that is alone by construction.
const NODE_ID: i32 = 1;

/// Run the whole system in one process, on a local directory.
///
/// When it is ready, one line goes to stdout: `ready kafka=H:P grpc=H:P http=H:P cluster=ID node=N`. Logs go to
/// stderr. SIGTERM and SIGINT finish what is under way and exit with 0; a second signal exits at once.
#[derive(Args, Debug)]
pub(crate) struct DevArgs {
    /// Where data is kept; created if it does not exist [default: ./esker-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Keep data in a temporary directory (inside DIR, if one is given) that is removed at exit
    #[arg(long)]
    ephemeral: bool,
    #[command(flatten)]
    process: ProcessArgs,
    /// Answer before data is safe on disk: faster, and a power cut loses what was acknowledged
    #[arg(long)]
    no_fsync: bool,
}

/// Run one agent of a cluster, over etcd and a bucket.
///
/// It keeps nothing: any number of them serve the same cluster, and any may be killed. Credentials, region and endpoint of
/// the bucket come as the AWS SDK reads them (AWS_ENDPOINT_URL_S3, AWS_REGION, AWS_ACCESS_KEY_ID, a profile, a role).
///
/// When it is ready, one line goes to stdout: `ready kafka=H:P grpc=H:P http=H:P cluster=ID node=N`. Logs go to stderr.
/// SIGTERM and SIGINT hand over and exit with 0; a second signal exits at once.
#[derive(Args, Debug)]
pub(crate) struct AgentArgs {
    #[command(flatten)]
    stores: StoreArgs,
    /// The availability zone; clients of a zone are led to its agents
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    #[command(flatten)]
    process: ProcessArgs,
    /// Where other agents connect [default: 127.0.0.1:9097]
    #[arg(long, value_name = "HOST:PORT")]
    peer: Option<String>,
    /// A directory for the disk part of the cache; nothing in it is missed when it is lost
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<String>,
}

/// The stores of a cluster.
#[derive(Args, Debug)]
pub(crate) struct StoreArgs {
    /// Members of etcd, and what begins the keys of this cluster
    #[arg(long, value_name = "H:P[,H:P…][/PREFIX]")]
    etcd: Option<String>,
    /// The bucket
    #[arg(long, value_name = "s3://BUCKET[/PREFIX]")]
    store: Option<String>,
}

impl StoreArgs {
    /// What these flags say, as settings.
    pub(crate) fn assignments(&self) -> Vec<Assignment> {
        flags([
            ("esker.etcd", "--etcd", &self.etcd),
            ("esker.store", "--store", &self.store),
        ])
    }
}

/// What every process that serves takes.
#[derive(Args, Debug)]
pub(crate) struct ProcessArgs {
    /// Where Kafka clients connect; port 0 takes a free one [default: 127.0.0.1:9092]
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,
    /// Where gRPC clients connect; port 0 takes a free one [default: 127.0.0.1:9095]
    #[arg(long, value_name = "HOST:PORT")]
    grpc: Option<String>,
    /// Where /livez, /readyz and /metrics are [default: 127.0.0.1:9096]
    #[arg(long, value_name = "HOST:PORT")]
    http: Option<String>,
    /// The address that Kafka clients are told to connect to, if it is not the one listened on
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Listen on addresses that other machines can reach, without TLS or authentication
    #[arg(long)]
    insecure_listen: bool,
    #[command(flatten)]
    pub(crate) settings: SettingArgs,
}

/// Where settings come from.
#[derive(Args, Debug)]
pub(crate) struct SettingArgs {
    /// Change one setting, as in --set num.partitions=3; may be repeated
    ///
    /// Overrides ESKER_… environment variables (ESKER_NUM_PARTITIONS), which override the file.
    /// docs/configuration.md lists all settings.
    #[arg(long, value_name = "KEY=VALUE", value_parser = config::said)]
    pub(crate) set: Vec<Said>,
    /// A TOML file with settings, as in "num.partitions" = 3
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// How log lines look; ESKER_LOG=debug shows more of them
    #[arg(long, value_enum, default_value_t = LogFormat::Text, value_name = "text|json", hide_possible_values = true)]
    pub(crate) log_format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

impl DevArgs {
    /// Resolves the settings and checks the rest.
    pub(crate) fn into_options(self) -> anyhow::Result<DevOptions> {
        let default_dir = if self.ephemeral {
            std::env::temp_dir()
        } else {
            PathBuf::from("./esker-data")
        };
        let log_format = self.process.settings.log_format;
        let mut serving = self.process.serving(Profile::Dev, Vec::new())?;
        // There is nobody else: no peers, and one node id for ever.
        serving.peer = None;
        serving.node = Some(NODE_ID);
        Ok(DevOptions {
            data_dir: self.data_dir.unwrap_or(default_dir),
            ephemeral: self.ephemeral,
            serving,
            fsync: !self.no_fsync,
            log_format,
        })
    }
}

impl AgentArgs {
    /// Resolves the settings and checks the rest.
    pub(crate) fn into_options(self) -> anyhow::Result<AgentOptions> {
        let mut said = self.stores.assignments();
        said.extend(flags([
            ("esker.zone", "--zone", &self.zone),
            ("esker.peer", "--peer", &self.peer),
            ("esker.cache.dir", "--cache-dir", &self.cache_dir),
        ]));
        let log_format = self.process.settings.log_format;
        let serving = self.process.serving(Profile::Standard, said)?;
        Ok(AgentOptions { serving, log_format })
    }
}

impl ProcessArgs {
    /// Resolves the settings, looks up the names to listen on, and refuses listeners that are open to everybody.
    fn serving(self, profile: Profile, mut said: Vec<Assignment>) -> anyhow::Result<Serving> {
        said.extend(flags([
            ("esker.kafka", "--kafka", &self.kafka),
            ("esker.grpc", "--grpc", &self.grpc),
            ("esker.http", "--http", &self.http),
            ("esker.advertise", "--advertise", &self.advertise),
            (
                "esker.insecure.listen",
                "--insecure-listen",
                &self.insecure_listen.then(|| "true".to_owned()),
            ),
        ]));
        let settings = self.settings.resolve(profile, said)?;
        let process = &settings.process;
        let peer = if profile == Profile::Dev {
            None
        } else {
            Some(listen("--peer", &process.peer)?)
        };
        let serving = Serving {
            kafka: listen("--kafka", &process.kafka)?,
            grpc: listen("--grpc", &process.grpc)?,
            http: listen("--http", &process.http)?,
            peer,
            advertise: advertised("--advertise", &process.advertise)?,
            advertise_peer: advertised("esker.advertise.peer", &process.advertise_peer)?,
            node: None,
            settings,
        };
        if profile != Profile::Dev {
            serving.refuse_to_announce_everywhere()?;
        }
        if !serving.settings.process.insecure_listen {
            for open in [serving.kafka, serving.grpc, serving.http].iter().chain(&serving.peer) {
                refuse_open_listener(open)?;
            }
        }
        Ok(serving)
    }
}

impl Serving {
    /// An agent that listens on all addresses does not know the one that reaches it from elsewhere. If every host announced
    /// 127.0.0.1, each would take the others for its own predecessor.
    fn refuse_to_announce_everywhere(&self) -> Result<(), UsageError> {
        let kafka = (Some(&self.kafka), &self.advertise, "--advertise");
        let peer = (self.peer.as_ref(), &self.advertise_peer, "esker.advertise.peer");
        for (listener, advertised, wanted) in [kafka, peer] {
            if let Some(Listen { flag, address }) = listener
                && address.ip().is_unspecified()
                && advertised.is_none()
            {
                return Err(UsageError(format!(
                    "{flag} {address} is every address of this host; say with {wanted} which one others connect to"
                )));
            }
        }
        Ok(())
    }
}

impl SettingArgs {
    /// Profile, then file, then environment, then `--set`, then flags of their own.
    pub(crate) fn resolve(self, profile: Profile, flags: Vec<Assignment>) -> Result<Settings, UsageError> {
        config::resolve(profile, self.config.as_deref(), self.set, flags)
    }
}

/// The settings that flags of their own say.
pub(crate) fn flags<const N: usize>(said: [(&str, &'static str, &Option<String>); N]) -> Vec<Assignment> {
    let said = said.into_iter().filter_map(|(key, flag, value)| {
        Some(Assignment {
            name: key.to_owned(),
            value: value.clone()?,
            origin: Origin::Flag(flag),
        })
    });
    said.collect()
}

/// An address to listen on, or a name that has one.
pub(crate) fn listen(flag: &'static str, text: &str) -> Result<Listen, UsageError> {
    let refused = |why: String| UsageError(format!("{flag} {text}: {why}"));
    let mut addresses = text
        .to_socket_addrs()
        .map_err(|error| refused(format!("HOST:PORT is needed ({error})")))?;
    let address = addresses.next();
    let address = address.ok_or_else(|| refused("the name has no address".to_owned()))?;
    Ok(Listen { flag, address })
}

fn advertised(flag: &str, text: &str) -> Result<Option<HostPort>, UsageError> {
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = HostPort::parse(text).map_err(|why| UsageError(format!("{flag} {text}: {why}")))?;
    Ok(Some(parsed))
}

/// There is neither TLS nor SASL yet, so only this machine may connect unless somebody insists.
pub(crate) fn refuse_open_listener(listen: &Listen) -> Result<(), UsageError> {
    if listen.address.ip().is_loopback() {
        return Ok(());
    }
    let Listen { flag, address } = listen;
    Err(UsageError(format!(
        "{flag} {address} can be reached from other machines, without TLS or authentication; listen on 127.0.0.1, \
         or say --insecure-listen"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser as _;

    fn options(args: &[&str]) -> anyhow::Result<DevOptions> {
        let cli = Cli::try_parse_from(["esker", "dev"].iter().chain(args))?;
        match cli.command {
            Command::Dev(args) => args.into_options(),
            other => panic!("{other:?} is not dev"),
        }
    }

    fn refused(args: &[&str]) -> String {
        options(args).expect_err("must be refused").to_string()
    }

    #[test]
    fn nothing_said_is_the_contract() {
        let options = options(&[]).unwrap();
        assert_eq!(options.data_dir, PathBuf::from("./esker-data"));
        assert_eq!(options.serving.kafka.address, "127.0.0.1:9092".parse().unwrap());
        assert_eq!(options.serving.grpc.address, "127.0.0.1:9095".parse().unwrap());
        assert_eq!(options.serving.http.address, "127.0.0.1:9096".parse().unwrap());
        assert!(options.fsync && !options.ephemeral && options.serving.advertise.is_none());
        assert_eq!(options.log_format, LogFormat::Text);
        assert!(options.serving.settings.topics.auto_create);
    }

    #[test]
    fn names_are_taken_as_addresses() {
        let options = options(&["--kafka", "localhost:0", "--advertise", "broker.example:19092"]).unwrap();
        assert!(options.serving.kafka.address.ip().is_loopback());
        assert_eq!(
            options.serving.advertise.unwrap(),
            HostPort {
                host: "broker.example".to_owned(),
                port: 19_092
            }
        );
    }

    #[test]
    fn set_repeats_and_the_last_word_wins() {
        let options = options(&["--set", "num.partitions=3", "--set", "num.partitions=4"]).unwrap();
        assert_eq!(options.serving.settings.topics.partitions, 4);
    }

    #[test]
    fn an_unknown_setting_names_the_nearest() {
        let error = options(&["--set", "num.partitons=3"]).expect_err("must be refused");
        assert!(error.is::<UsageError>());
        assert!(
            error.to_string().contains("did you mean \"num.partitions\"?"),
            "{error}"
        );
        assert!(refused(&["--set", "num.partitions"]).contains("KEY=VALUE"));
    }

    #[test]
    fn an_open_listener_needs_a_word() {
        assert!(refused(&["--kafka", "0.0.0.0:9092"]).contains("--insecure-listen"));
        assert!(options(&["--kafka", "0.0.0.0:9092", "--insecure-listen"]).is_ok());
    }

    #[test]
    fn an_agent_on_every_address_must_say_which_one_others_use() {
        let agent = |args: &[&str]| {
            let stores = ["--etcd", "localhost:2379", "--store", "memory:", "--insecure-listen"];
            let args = ["esker", "agent"].iter().chain(&stores).chain(args);
            let Command::Agent(agent) = Cli::try_parse_from(args).unwrap().command else {
                panic!("not esker agent");
            };
            agent.into_options().map_err(|error| error.to_string())
        };
        for every in ["0.0.0.0:9092", "[::]:9092"] {
            assert!(agent(&["--kafka", every]).unwrap_err().contains("--advertise"));
            assert!(agent(&["--kafka", every, "--advertise", "broker.example:9092"]).is_ok());
        }
        let refused = agent(&["--peer", "0.0.0.0:9094"]).unwrap_err();
        assert!(refused.contains("esker.advertise.peer"), "{refused}");
        assert!(agent(&["--kafka", "127.0.0.1:9092", "--peer", "127.0.0.1:9094"]).is_ok());
    }

    #[test]
    fn an_ephemeral_node_stays_out_of_the_working_directory() {
        assert_eq!(options(&["--ephemeral"]).unwrap().data_dir, std::env::temp_dir());
        assert_eq!(
            options(&["--ephemeral", "--data-dir", "x"]).unwrap().data_dir,
            PathBuf::from("x")
        );
    }

    #[test]
    fn addresses_without_a_port_are_refused() {
        assert!(refused(&["--kafka", "127.0.0.1"]).contains("HOST:PORT"));
        assert!(refused(&["--advertise", "broker"]).contains("HOST:PORT"));
        assert!(refused(&["--advertise", ":9092"]).contains("HOST:PORT"));
    }
}
