//! What each API key means: names, versions, header versions, listeners.

use std::fmt;

use crate::ApiKey;

/// An inclusive range of versions of one API; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionRange {
    /// First version.
    pub first: i16,
    /// Last version.
    pub last: i16,
}

impl VersionRange {
    /// True if `version` is one of them.
    #[must_use]
    pub const fn contains(self, version: i16) -> bool {
        self.first <= version && version <= self.last
    }
}

/// Which kinds of Kafka listener answer an API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listeners {
    /// Brokers answer it to clients.
    pub broker: bool,
    /// `KRaft` controllers answer it.
    pub controller: bool,
}

/// One row of the generated table.
pub(crate) struct ApiInfo {
    pub(crate) name: &'static str,
    pub(crate) first: i16,
    pub(crate) last: i16,
    pub(crate) last_unstable: bool,
    /// `i16::MAX` if no version is flexible.
    pub(crate) flexible_from: i16,
    pub(crate) listeners: Listeners,
}

/// The number on the wire is not an API of Kafka 4.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown api key {0}")]
pub struct UnknownApiKey(pub i16);

impl ApiKey {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// Kafka's name, for example `Produce`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.info().name
    }

    /// The versions that this crate reads and writes, unstable ones included.
    #[must_use]
    pub const fn valid_versions(self) -> VersionRange {
        VersionRange {
            first: self.info().first,
            last: self.info().last,
        }
    }

    /// True if the last valid version is not final: it must not be offered to clients.
    #[must_use]
    pub const fn latest_version_unstable(self) -> bool {
        self.info().last_unstable
    }

    /// The valid versions without an unstable last one.
    #[must_use]
    pub const fn stable_versions(self) -> VersionRange {
        let VersionRange { first, last } = self.valid_versions();
        if self.latest_version_unstable() {
            return VersionRange { first, last: last - 1 };
        }
        VersionRange { first, last }
    }

    /// What Kafka lists in an `ApiVersions` response: the stable versions, but Produce from 0, because librdkafka
    /// before 2.11 misreads a broker that does not list it (KAFKA-18659). Produce 0 to 2 cannot be decoded.
    #[must_use]
    pub const fn advertised_versions(self) -> VersionRange {
        let VersionRange { first, last } = self.stable_versions();
        if matches!(self, Self::Produce) {
            return VersionRange { first: 0, last };
        }
        VersionRange { first, last }
    }

    /// True if `version` uses compact lengths and tagged fields (KIP-482).
    #[must_use]
    pub const fn flexible(self, version: i16) -> bool {
        version >= self.info().flexible_from
    }

    /// Version of the request header in front of a request of this version.
    #[must_use]
    pub const fn request_header_version(self, version: i16) -> i16 {
        if self.flexible(version) { 2 } else { 1 }
    }

    /// Version of the response header in front of a response of this version. For `ApiVersions` it is always 0,
    /// because a client must understand it before it knows what the broker speaks (KIP-511).
    #[must_use]
    pub const fn response_header_version(self, version: i16) -> i16 {
        if self.flexible(version) && !matches!(self, Self::ApiVersions) {
            1
        } else {
            0
        }
    }

    /// Who answers it in Kafka.
    #[must_use]
    pub const fn listeners(self) -> Listeners {
        self.info().listeners
    }
}

impl TryFrom<i16> for ApiKey {
    type Error = UnknownApiKey;

    fn try_from(code: i16) -> Result<Self, UnknownApiKey> {
        Self::from_code(code).ok_or(UnknownApiKey(code))
    }
}

impl From<ApiKey> for i16 {
    fn from(key: ApiKey) -> Self {
        key.code()
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
