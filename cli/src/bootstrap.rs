//! How commands find the cluster that they speak to.
//!
//! Owns: `--bootstrap`.
//! Does not own: what is asked of the cluster.

use clap::Args;
use esker_kafka_client::{Client, HostPort, Settings};

/// Which cluster.
#[derive(Args, Clone, Debug)]
pub(crate) struct BootstrapArgs {
    /// Brokers to ask first, of Esker or of any Kafka cluster
    #[arg(
        long,
        short,
        env = "ESKER_BOOTSTRAP",
        hide_env_values = true,
        value_name = "HOST:PORT,…",
        value_delimiter = ',',
        value_parser = HostPort::parse,
        default_value = "127.0.0.1:9092"
    )]
    pub(crate) bootstrap: Vec<HostPort>,
}

impl BootstrapArgs {
    /// A client that has not asked anybody anything.
    pub(crate) fn client(&self) -> Client {
        Client::new(Settings::new(self.bootstrap.clone()))
    }
}
