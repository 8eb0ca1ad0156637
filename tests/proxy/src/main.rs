//! `esker-proxy`: the proxy as a process of its own, for chaos.
//!
//! When it is ready, one line goes to stdout: `ready listen=H:P admin=H:P`.

use std::io::Write as _;
use std::net::SocketAddr;

use anyhow::Context as _;
use clap::Parser;
use esker_proxy::Proxy;

/// A reverse proxy in front of an S3 server in which things go wrong on request.
#[derive(Debug, Parser)]
#[command(name = "esker-proxy", version)]
struct Args {
    /// Where clients connect; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where faults are switched: `GET`, `PUT` (JSON) and `DELETE /faults`, `GET /counts`
    #[arg(long, default_value = "127.0.0.1:0")]
    admin: SocketAddr,
    /// The server, as HOST:PORT
    #[arg(long)]
    upstream: String,
    /// The same requests in the same order meet the same faults for the same seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    runtime.block_on(async {
        let mut proxy = Proxy::start(args.listen, &args.upstream, args.seed)
            .await
            .context("cannot listen")?;
        let admin = proxy
            .start_admin(args.admin)
            .await
            .context("cannot listen for orders")?;
        writeln!(std::io::stdout(), "ready listen={} admin={admin}", proxy.address())?;
        tokio::signal::ctrl_c().await.context("cannot wait for a signal")
    })
}
