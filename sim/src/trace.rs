//! What happened in a run, line by line, and a hash over all of it.
//!
//! Owns: the events of clients and of the machine. The stores keep traces of their own, which `scenario` adds to the hash.

use std::collections::VecDeque;
use std::fmt::Arguments;
use std::hash::Hasher;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

/// Lines that are kept for a failing seed; the hash covers all.
const LINES_MAX: usize = 20_000;

/// The trace of a run. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    begun: Instant,
    lines: VecDeque<String>,
    hash: std::hash::DefaultHasher,
}

impl Trace {
    pub(crate) fn new() -> Self {
        let state = State {
            begun: Instant::now(),
            lines: VecDeque::new(),
            hash: std::hash::DefaultHasher::new(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Adds a line.
    pub(crate) fn note(&self, what: Arguments<'_>) {
        let mut state = self.lock();
        let line = format!("{:>11.6} {what}", state.begun.elapsed().as_secs_f64());
        state.hash.write(line.as_bytes());
        if state.lines.len() == LINES_MAX {
            state.lines.pop_front();
        }
        state.lines.push_back(line);
    }

    /// The newest lines, oldest first.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lock().lines.iter().cloned().collect()
    }

    /// Equal for equal runs.
    pub(crate) fn hash(&self) -> u64 {
        self.lock().hash.finish()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
