//! What is counted of calls.
//!
//! Owns: the names of methods in metrics, when a call has ended and how.
//! Does not own: the catalogue (`crate::telemetry`).
//!
//! Invariants: MEM-1 (labels are ours, never a client's).

use metrics::{Counter, counter, gauge, histogram};
use tokio::time::Instant;
use tonic::Code;

use crate::telemetry::{GRPC_CODES, GRPC_METHODS};

/// All methods of the API are in packages that begin so.
const PACKAGE: &str = "/esker.v1.";
const ADMIN: &str = "/esker.v1.Admin/";
/// Of a service that is not about records either.
const COMMIT: &str = "Commit";
/// Health, reflection, and what does not exist.
const OTHER: &str = "other";

/// A method.
#[derive(Clone, Copy, Debug)]
pub(super) struct Method {
    name: &'static str,
    admin: bool,
}

impl Method {
    /// The method of a path.
    pub(super) fn of(path: &str) -> Self {
        let called = path.strip_prefix(PACKAGE).and_then(|path| path.split_once('/'));
        let known = called.and_then(|(_, called)| GRPC_METHODS.iter().copied().find(|name| *name == called));
        let name = known.unwrap_or(OTHER);
        Self {
            name,
            admin: path.starts_with(ADMIN) || name == COMMIT,
        }
    }

    /// Whether its answers speak of many things, but have no records.
    pub(super) fn is_admin(self) -> bool {
        self.admin
    }
}

/// One call, which has ended when this is dropped.
pub(super) struct Measured {
    method: &'static str,
    began: Instant,
    /// How it ended; a call that ends without was given up by the client.
    code: Code,
    bytes_out: Counter,
}

impl Measured {
    pub(super) fn begin(method: Method) -> Self {
        let method = method.name;
        gauge!("esker_grpc_open_calls", "method" => method).increment(1);
        Self {
            method,
            began: Instant::now(),
            code: Code::Cancelled,
            bytes_out: counter!("esker_grpc_bytes_total", "direction" => "out"),
        }
    }

    /// Says how the call ends.
    pub(super) fn ended(&mut self, code: Code) {
        self.code = code;
    }

    /// So many bytes of messages were handed over.
    pub(super) fn sent(&self, bytes: usize) {
        self.bytes_out.increment(wide(bytes));
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        let (method, code) = (self.method, name_of(self.code));
        gauge!("esker_grpc_open_calls", "method" => method).decrement(1);
        counter!("esker_grpc_calls_total", "method" => method, "code" => code).increment(1);
        histogram!("esker_grpc_call_seconds", "method" => method).record(self.began.elapsed().as_secs_f64());
    }
}

/// Bytes of messages that a call takes in.
pub(super) fn bytes_in() -> Counter {
    counter!("esker_grpc_bytes_total", "direction" => "in")
}

/// Records of a client were stored.
pub(super) fn records_stored(records: usize) {
    counter!("esker_grpc_records_total", "direction" => "in").increment(wide(records));
}

/// Records were read for a client.
pub(super) fn records_read(records: usize) {
    counter!("esker_grpc_records_total", "direction" => "out").increment(wide(records));
}

pub(super) fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn name_of(code: Code) -> &'static str {
    let number = usize::try_from(i32::from(code)).unwrap_or(usize::MAX);
    GRPC_CODES.get(number).copied().unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_and_codes_have_the_names_of_the_api() {
        let method = |path| Method::of(path);
        assert_eq!(method("/esker.v1.Producer/ProduceStream").name, "ProduceStream");
        assert_eq!(method("/grpc.health.v1.Health/Check").name, OTHER);
        assert_eq!(method("/esker.v1.Producer/What").name, OTHER);
        assert!(method("/esker.v1.Admin/ListTopics").is_admin() && method("/esker.v1.Consumer/Commit").is_admin());
        assert!(!method("/esker.v1.Consumer/Fetch").is_admin());
        for (number, name) in (0..).zip(GRPC_CODES) {
            assert_eq!(name_of(Code::from(number)), *name);
            let spelt = format!("{:?}", Code::from(number)).to_lowercase();
            assert_eq!(spelt, name.replace('_', ""));
        }
    }

    #[test]
    fn every_method_of_the_api_has_a_name_in_the_catalogue() {
        let services = [
            include_str!("../../../proto/esker/v1/producer.proto"),
            include_str!("../../../proto/esker/v1/consumer.proto"),
            include_str!("../../../proto/esker/v1/admin.proto"),
        ];
        let lines = services.iter().flat_map(|service| service.lines());
        let methods = lines.filter_map(|line| line.trim_start().strip_prefix("rpc ")?.split('(').next());
        assert!(methods.chain([OTHER]).eq(GRPC_METHODS.iter().copied()));
    }
}
