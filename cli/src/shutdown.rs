//! The end: the first signal asks everything to finish, the second ends the process.
//!
//! Owns: SIGTERM and SIGINT, the exit code of what they cut short.
//! Does not own: how long finishing may take (whoever waits for the token).

use std::io::Write as _;
use std::sync::{Arc, OnceLock};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit code of a process that did not finish what it had.
const EXIT_UNFINISHED: i32 = 1;

/// The first signal, once it came.
#[derive(Clone, Debug, Default)]
pub(crate) struct First(Arc<OnceLock<SignalKind>>);

impl First {
    /// The error of a command that it cut short.
    pub(crate) fn cut_short(&self, words: String) -> CutShort {
        let signal = *self.0.get().unwrap_or(&SignalKind::terminate());
        CutShort { signal, words }
    }
}

/// A signal ended something before it was done. That is no failure, and the exit code is what shells have for it.
#[derive(Debug, thiserror::Error)]
#[error("ended by {} {words}", name(*.signal))]
pub(crate) struct CutShort {
    signal: SignalKind,
    words: String,
}

impl CutShort {
    /// 130 for SIGINT, 143 for SIGTERM.
    pub(crate) fn exit_code(&self) -> u8 {
        u8::try_from(128 + self.signal.as_raw_value()).expect("signals are small numbers")
    }
}

/// Cancels `stop` at the first SIGTERM or SIGINT, and ends the process at the second.
pub(crate) fn on_signals(stop: CancellationToken) -> std::io::Result<First> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let first = First::default();
    let told = first.clone();
    tokio::spawn(async move {
        let kind = next(&mut term, &mut int).await;
        told.0.get_or_init(|| kind);
        tracing::info!(signal = name(kind), "finishing; a second signal ends at once");
        stop.cancel();
        let name = name(next(&mut term, &mut int).await);
        let _ = writeln!(
            std::io::stderr(),
            "error: ended by a second {name} before everything was finished"
        );
        std::process::exit(EXIT_UNFINISHED);
    });
    Ok(first)
}

fn name(kind: SignalKind) -> &'static str {
    if kind == SignalKind::interrupt() {
        "SIGINT"
    } else {
        "SIGTERM"
    }
}

async fn next(term: &mut Signal, int: &mut Signal) -> SignalKind {
    tokio::select! {
        biased;
        _ = term.recv() => SignalKind::terminate(),
        _ = int.recv() => SignalKind::interrupt(),
    }
}
