//! What a simulated store did, line by line.

use std::collections::VecDeque;
use std::fmt::{Arguments, Write};
use std::hash::Hasher;

use tokio::time::Instant;

/// Lines that are kept; the hash covers all there ever were.
const LINES_MAX: usize = 4_096;

/// The newest lines, and a hash over all.
#[derive(Debug)]
pub(super) struct Trace {
    begun: Instant,
    lines: VecDeque<String>,
    hash: std::hash::DefaultHasher,
}

impl Trace {
    pub(super) fn new() -> Self {
        Self {
            begun: Instant::now(),
            lines: VecDeque::new(),
            hash: std::hash::DefaultHasher::new(),
        }
    }

    pub(super) fn note(&mut self, what: Arguments<'_>) {
        let mut line = String::new();
        let _infallible = write!(line, "{:?} {what}", self.begun.elapsed());
        self.hash.write(line.as_bytes());
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash.finish()
    }
}
