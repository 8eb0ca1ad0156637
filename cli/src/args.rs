//! The command line: what can be said, and what it comes to.
//!
//! Owns: names, defaults and help of commands and flags; which combinations are refused.
//! Does not own: settings (`esker_agent::settings`), acting on any of it.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use esker_agent::settings::Profile;

use crate::UsageError;
use crate::config::{self, Said};
use crate::dev::{DevOptions, HostPort};
use crate::listen::Listen;

/// An event streaming broker that speaks Kafka and keeps everything in objects.
#[derive(Debug, Parser)]
#[command(name = "esker", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the whole system in one process, on a local directory
    Dev(DevArgs),
    /// Verify every committed offset of a node that is not running
    CheckData(CheckDataArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell to complete in
        shell: Shell,
    },
}

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
    /// Where Kafka clients connect; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9092", value_parser = listen_address)]
    kafka: SocketAddr,
    /// The gRPC port, which answers 501 until there is gRPC
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9095", value_parser = listen_address)]
    grpc: SocketAddr,
    /// Where /livez, /readyz and /metrics are
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9096", value_parser = listen_address)]
    http: SocketAddr,
    /// The address that Kafka clients are told to connect to, if it is not the one listened on
    #[arg(long, value_name = "HOST:PORT", value_parser = HostPort::parse)]
    advertise: Option<HostPort>,
    /// Listen on addresses that other machines can reach, without TLS or authentication
    #[arg(long)]
    insecure_listen: bool,
    /// Change one setting, as in --set num.partitions=3; may be repeated
    ///
    /// Overrides ESKER_… environment variables (ESKER_NUM_PARTITIONS), which override the file.
    /// docs/configuration.md lists all settings.
    #[arg(long, value_name = "KEY=VALUE", value_parser = config::said)]
    set: Vec<Said>,
    /// A TOML file with settings, as in "num.partitions" = 3
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How log lines look; ESKER_LOG=debug shows more of them
    #[arg(long, value_enum, default_value_t = LogFormat::Text, value_name = "text|json", hide_possible_values = true)]
    log_format: LogFormat,
    /// Answer before data is safe on disk: faster, and a power cut loses what was acknowledged
    #[arg(long)]
    no_fsync: bool,
}

#[derive(Args, Debug)]
pub(crate) struct CheckDataArgs {
    /// The data directory of the node
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
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
        let listens = [
            Listen {
                flag: "--kafka",
                address: self.kafka,
            },
            Listen {
                flag: "--grpc",
                address: self.grpc,
            },
            Listen {
                flag: "--http",
                address: self.http,
            },
        ];
        if !self.insecure_listen {
            for listen in &listens {
                refuse_open_listener(listen)?;
            }
        }
        let [kafka, grpc, http] = listens;
        let default_dir = if self.ephemeral {
            std::env::temp_dir()
        } else {
            PathBuf::from("./esker-data")
        };
        Ok(DevOptions {
            settings: config::resolve(Profile::Dev, self.config.as_deref(), self.set)?,
            data_dir: self.data_dir.unwrap_or(default_dir),
            ephemeral: self.ephemeral,
            kafka,
            grpc,
            http,
            advertise: self.advertise,
            fsync: !self.no_fsync,
            log_format: self.log_format,
        })
    }
}

/// There is neither TLS nor SASL yet, so only this machine may connect unless somebody insists.
fn refuse_open_listener(listen: &Listen) -> Result<(), UsageError> {
    if listen.address.ip().is_loopback() {
        return Ok(());
    }
    let Listen { flag, address } = listen;
    Err(UsageError(format!(
        "{flag} {address} can be reached from other machines, without TLS or authentication; listen on 127.0.0.1, \
         or say --insecure-listen"
    )))
}

/// An address or a name with a port.
fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let mut addresses = text
        .to_socket_addrs()
        .map_err(|error| format!("HOST:PORT is needed ({error})"))?;
    addresses.next().ok_or_else(|| "the name has no address".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn the_command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn nothing_said_is_the_contract() {
        let options = options(&[]).unwrap();
        assert_eq!(options.data_dir, PathBuf::from("./esker-data"));
        assert_eq!(options.kafka.address, "127.0.0.1:9092".parse().unwrap());
        assert_eq!(options.grpc.address, "127.0.0.1:9095".parse().unwrap());
        assert_eq!(options.http.address, "127.0.0.1:9096".parse().unwrap());
        assert!(options.fsync && !options.ephemeral && options.advertise.is_none());
        assert_eq!(options.log_format, LogFormat::Text);
        assert!(options.settings.topics.auto_create);
    }

    #[test]
    fn names_are_taken_as_addresses() {
        let options = options(&["--kafka", "localhost:0", "--advertise", "broker.example:19092"]).unwrap();
        assert!(options.kafka.address.ip().is_loopback());
        assert_eq!(
            options.advertise.unwrap(),
            HostPort {
                host: "broker.example".to_owned(),
                port: 19_092
            }
        );
    }

    #[test]
    fn set_repeats_and_the_last_word_wins() {
        let options = options(&["--set", "num.partitions=3", "--set", "num.partitions=4"]).unwrap();
        assert_eq!(options.settings.topics.partitions, 4);
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
