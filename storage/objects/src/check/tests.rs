//! Good stores pass. Stores that break each property are in `tests/proxy`.

use crate::bucket::Bucket;
use crate::bucket::clock::StoreClock;
use crate::random::Random;
use crate::simulated::{Faults, SimulatedStore};
use crate::store::ObjectStore;

use super::{CheckSettings, Property, Verdict, check};

#[tokio::test(start_paused = true)]
async fn a_good_store_has_every_property_and_nothing_is_left() {
    let stores: [Box<dyn ObjectStore>; 2] = [
        Box::new(Bucket::memory()),
        Box::new(SimulatedStore::new(Random::new(1), Faults::NONE)),
    ];
    for store in stores {
        let findings = check(
            &*store,
            &StoreClock::default(),
            &CheckSettings::new("check-1".to_owned(), 1),
        )
        .await;
        assert_eq!(findings.len(), Property::ALL.len());
        for finding in findings {
            let expected_to_hold = finding.property != Property::Clock;
            assert_eq!(
                matches!(finding.verdict, Verdict::Holds(_)),
                expected_to_hold,
                "{finding:?}"
            );
        }
        assert!(store.list("", None, 10).await.unwrap().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn stale_listings_are_noticed() {
    let faults = Faults {
        stale_list: crate::random::PerMillion(1_000_000),
        stale_by: std::time::Duration::from_secs(5)..std::time::Duration::from_secs(6),
        ..Faults::NONE
    };
    let store = SimulatedStore::new(Random::new(1), faults);
    let findings = check(
        &store,
        &StoreClock::default(),
        &CheckSettings::new("check-1".to_owned(), 1),
    )
    .await;
    let failed: Vec<_> = findings
        .iter()
        .filter(|finding| matches!(finding.verdict, Verdict::Fails(_)))
        .map(|finding| finding.property)
        .collect();
    assert!(failed.contains(&Property::ListAfterWrite), "{failed:?}");
    assert!(failed.contains(&Property::Many), "{failed:?}");
}
