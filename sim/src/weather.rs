//! How bad a run is: the faults of both stores and the settings of the node, drawn from the seed.

use std::time::Duration;

use esker_agent::settings::{Origin, Profile, Settings};
use esker_metadata::simulated as metadata;
use esker_storage::random::PerMillion;
use esker_storage::simulated as objects;

use crate::dice::Dice;

/// Faults of the metadata store.
pub(crate) fn metadata_faults(dice: &mut Dice) -> metadata::Faults {
    let worst = if dice.percent(20) { 15 } else { 5 };
    let percent = dice.count(0..worst);
    metadata::Faults {
        timeout: Duration::from_millis(500),
        lease_early: metadata::Chance::PERCENT * dice.count(0..6),
        lease_late: metadata::Chance::PERCENT * 10,
        ..metadata::Faults::rough(percent)
    }
}

/// The metadata store when all is well again.
pub(crate) fn calm_metadata() -> metadata::Faults {
    metadata::Faults::calm()
}

/// Faults of the bucket. Now and then a read is wrong; that must be noticed.
pub(crate) fn object_faults(dice: &mut Dice) -> objects::Faults {
    let often = |percent: u32| PerMillion(percent * 10_000);
    let usual_ms = dice.within(2..60);
    objects::Faults {
        fail_before: often(dice.count(0..6)),
        fail_after: often(dice.count(0..6)),
        vanish: often(dice.count(0..4)),
        late: often(dice.count(0..4)),
        late_by: Duration::from_millis(50)..Duration::from_secs(10),
        lost_answer: PerMillion(dice.count(0..8_000)),
        missing: PerMillion(dice.count(0..8_000)),
        bit_flip: PerMillion(dice.count(0..8_000)),
        stale_list: often(5),
        stale_by: Duration::from_millis(100)..Duration::from_secs(5),
        latency: objects::Latency {
            usual: Duration::from_millis(1)..Duration::from_millis(usual_ms),
            tail: often(2),
            tail_takes: Duration::from_millis(200)..Duration::from_secs(3),
        },
    }
}

/// The bucket when all is well again.
pub(crate) fn calm_objects() -> objects::Faults {
    objects::Faults {
        latency: objects::Latency {
            usual: Duration::from_millis(1)..Duration::from_millis(5),
            ..objects::Latency::NONE
        },
        ..objects::Faults::NONE
    }
}

/// The node's settings.
pub(crate) fn settings(dice: &mut Dice) -> Settings {
    let mut settings = Settings::resolve(Profile::Dev, []).expect("the profile obeys its rules");
    let (age, interval) = if dice.percent(50) {
        ("5ms", "1ms")
    } else {
        ("60ms", "40ms")
    };
    for (name, value) in [("esker.flush.age", age), ("esker.flush.min.interval", interval)] {
        settings
            .set(name, value, Origin::Default)
            .expect("both are durations that the table knows");
    }
    settings
}
