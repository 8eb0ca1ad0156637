//! What administrators ask: one method a request, with what is wrong as an error.
//!
//! Owns: whom each of them goes to, and which may be repeated.
//! Does not own: how answers are shown.

mod cluster;
mod groups;
mod offsets;
mod topics;

pub use self::cluster::Overview;
pub use self::offsets::{At, Committed, Found};

use std::time::Duration;

/// How long a broker may take to carry out a change.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(20);

/// That, as requests say it.
fn change_timeout_ms() -> i32 {
    i32::try_from(CHANGE_TIMEOUT.as_millis()).expect("seconds fit")
}
