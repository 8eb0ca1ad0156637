//! Merged indexes: round trips and what is refused.
