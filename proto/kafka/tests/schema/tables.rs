//! Our tables against rows of Kafka's.
//!
//! `a id name first last last-stable broker controller request-header:response-header…` with a pair per version, and
//! `e code name retriable`.

use std::fmt::Write as _;

use esker_kafka::{ApiKey, ErrorCode};

/// Fails unless our table has the same row.
pub fn check_row(row: &str) -> Result<(), String> {
    let f: Vec<&str> = row.split(' ').collect();
    let code: i16 = f[1].parse().map_err(|_| "no number")?;
    let ours = match f[0] {
        "a" => ApiKey::from_code(code).map(api_row),
        "e" => ErrorCode::from_code(code).map(|error| format!("e {code} {} {}", error.name(), error.is_retriable())),
        _ => None,
    };
    if ours.as_deref() == Some(row) {
        Ok(())
    } else {
        Err(format!("we have {ours:?}"))
    }
}

fn api_row(key: ApiKey) -> String {
    let valid = key.valid_versions();
    let listeners = key.listeners();
    let mut out = format!(
        "a {} {} {} {} {} {} {}",
        key.code(),
        key.name(),
        valid.first,
        valid.last,
        key.stable_versions().last,
        listeners.broker,
        listeners.controller
    );
    for version in valid.first..=valid.last {
        let (request, response) = (
            key.request_header_version(version),
            key.response_header_version(version),
        );
        write!(out, " {request}:{response}").expect("string");
    }
    out
}
