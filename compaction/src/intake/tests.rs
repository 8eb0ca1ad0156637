//! Chunks, and what becomes of segments that cannot be read.
