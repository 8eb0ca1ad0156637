//! Which version of each API is spoken on a connection.
//!
//! Owns: the versions in which the fields that callers of this crate fill mean the same, and the agreement with a broker.

use std::collections::BTreeMap;

use esker_kafka::messages::api_versions_response::ApiVersion;
use esker_kafka::{ApiKey, VersionRange};

/// What a broker offers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Versions(BTreeMap<i16, VersionRange>);

impl Versions {
    pub(crate) fn of(offered: &[ApiVersion]) -> Self {
        let ranges = offered.iter().map(|one| {
            let range = VersionRange {
                first: one.min_version,
                last: one.max_version,
            };
            (one.api_key, range)
        });
        Self(ranges.collect())
    }

    pub(crate) fn offered(&self, api: ApiKey) -> Option<VersionRange> {
        self.0.get(&api.code()).copied()
    }

    /// The last version that both know.
    pub(crate) fn agreed(&self, api: ApiKey) -> Option<i16> {
        let ours = spoken(api);
        let theirs = self.offered(api)?;
        let version = ours.last.min(theirs.last);
        (version >= ours.first.max(theirs.first)).then_some(version)
    }
}

/// The versions that this client speaks: all stable ones, but for those in which callers would have to fill other fields. Topics
/// go by name everywhere, groups and coordinators are asked for in batches.
pub(crate) fn spoken(api: ApiKey) -> VersionRange {
    let VersionRange { first, last } = api.stable_versions();
    let (first, last) = match api {
        // Later ones name topics by id.
        ApiKey::Produce | ApiKey::Fetch => (first, last.min(12)),
        ApiKey::OffsetCommit => (first, last.min(9)),
        // Earlier ones ask for one group, later ones name topics by id.
        ApiKey::OffsetFetch => (8, 9),
        // Earlier ones ask for one key.
        ApiKey::FindCoordinator => (4, last),
        // Earlier ones have a list of names of its own.
        ApiKey::DeleteTopics => (6, last),
        // Earlier ones know one member.
        ApiKey::LeaveGroup => (3, last),
        _ => (first, last),
    };
    VersionRange { first, last }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(first: i16, last: i16) -> Versions {
        Versions::of(&[ApiVersion {
            api_key: ApiKey::Fetch.code(),
            min_version: first,
            max_version: last,
        }])
    }

    #[test]
    fn the_last_version_of_both_is_spoken() {
        assert_eq!(offered(4, 18).agreed(ApiKey::Fetch), Some(12));
        assert_eq!(offered(4, 11).agreed(ApiKey::Fetch), Some(11));
        assert_eq!(offered(13, 18).agreed(ApiKey::Fetch), None);
        assert_eq!(offered(4, 18).agreed(ApiKey::Produce), None);
    }
}
