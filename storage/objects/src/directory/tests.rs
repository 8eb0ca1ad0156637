//! The local directory: what a crash leaves, and what a listing skips.
