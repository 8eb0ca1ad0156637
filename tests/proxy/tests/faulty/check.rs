//! `esker check-store` notices a store that breaks a property, names it, and no other.

use esker_proxy::faults::{Fault, Rule};
use esker_storage::bucket::clock::StoreClock;
use esker_storage::check::{CheckSettings, Property, Verdict, check};

use super::{behind_with_clock, impatient};

/// The properties that do not hold with this fault.
async fn broken(name: &str, rules: Vec<Rule>) -> Vec<Property> {
    let clock = StoreClock::default();
    let behind = behind_with_clock(1, impatient(), clock.clone()).await;
    behind.set(rules);
    let mut settings = CheckSettings::new(name.to_owned(), 1);
    settings.many_objects = 40;
    settings.large_bytes = 1 << 20;
    let findings = check(&*behind.stack, &clock, &settings).await;
    let failed = |verdict: &Verdict| matches!(verdict, Verdict::Fails(_));
    findings
        .into_iter()
        .filter(|finding| failed(&finding.verdict))
        .map(|finding| finding.property)
        .collect()
}

#[tokio::test]
async fn a_good_store_has_every_property() {
    assert_eq!(broken("none", vec![]).await, []);
}

#[tokio::test]
async fn each_broken_property_is_named() {
    let whole = |fault, verbs: &[&str]| vec![Rule::of(fault, verbs)];
    let of = |fault, verbs: &[&str], path_has: &str| {
        vec![Rule {
            path_has: path_has.to_owned(),
            ..Rule::of(fault, verbs)
        }]
    };
    let cases = [
        (whole(Fault::Clock { seconds: 75 }, &[]), vec![Property::Clock]),
        (whole(Fault::Clock { seconds: -75 }, &[]), vec![Property::Clock]),
        (
            whole(Fault::EmptyList, &["LIST"]),
            vec![Property::ListAfterWrite, Property::Many],
        ),
        (of(Fault::Corrupt, &["GET"], "/ranged"), vec![Property::Ranges]),
        (of(Fault::Truncate, &["GET"], "/large"), vec![Property::Large]),
        (whole(Fault::RefuseOverwrite, &["PUT"]), vec![Property::Overwrite]),
        (
            whole(Fault::TooLarge { bytes: 1 << 19 }, &["PUT"]),
            vec![Property::Ranges, Property::Large],
        ),
        (of(Fault::Pretend, &["PUT"], "/many"), vec![Property::Many]),
        (
            whole(Fault::Pretend, &["DELETE"]),
            vec![Property::Delete, Property::CleanUp],
        ),
        (whole(Fault::Pretend, &["PUT"]), vec![Property::WriteAndRead]),
        (
            whole(Fault::ErrorBefore { status: 403 }, &[]),
            vec![Property::WriteAndRead, Property::CleanUp],
        ),
    ];
    for (nth, (rules, expected)) in cases.into_iter().enumerate() {
        let found = broken(&format!("case-{nth}"), rules.clone()).await;
        assert_eq!(found, expected, "{rules:?}");
    }
}

#[tokio::test]
async fn half_a_minute_between_the_clocks_is_fine() {
    assert_eq!(
        broken("near", vec![Rule::of(Fault::Clock { seconds: 30 }, &[])]).await,
        []
    );
}
