//! Each fault does what it says; the same seed gives the same trace.
