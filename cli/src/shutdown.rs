//! The end: the first signal asks everything to finish, the second ends the process.
//!
//! Owns: SIGTERM and SIGINT.
//! Does not own: how long finishing may take (whoever waits for the token).

use std::io::Write as _;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit code of a process that did not finish what it had.
const EXIT_UNFINISHED: i32 = 1;

/// Cancels `stop` at the first SIGTERM or SIGINT, and ends the process at the second.
pub(crate) fn on_signals(stop: CancellationToken) -> std::io::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        let name = next(&mut term, &mut int).await;
        tracing::info!(signal = name, "finishing; a second signal ends at once");
        stop.cancel();
        let name = next(&mut term, &mut int).await;
        let _ = writeln!(
            std::io::stderr(),
            "error: ended by a second {name} before everything was finished"
        );
        std::process::exit(EXIT_UNFINISHED);
    });
    Ok(())
}

async fn next(term: &mut Signal, int: &mut Signal) -> &'static str {
    tokio::select! {
        biased;
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    }
}
