//! Decoding and encoding again gives the same bytes, for random messages of every type and version.

mod schema;

use bytes::Bytes;
use schema::random::{Rng, sample};

#[test]
fn every_definition_has_a_type_and_the_other_way_round() {
    let definitions = schema::definition::load_all();
    let names: Vec<&str> = schema::messages::all().iter().map(|entry| entry.name).collect();
    let defined: Vec<&str> = definitions.keys().map(String::as_str).collect();
    assert_eq!(names, defined);
    for entry in schema::messages::all() {
        let valid = definitions[entry.name].valid;
        assert_eq!((entry.first, entry.last), (valid.0, valid.1), "{}", entry.name);
    }
}

#[test]
fn random_messages_round_trip_in_every_version() {
    let definitions = schema::definition::load_all();
    for entry in schema::messages::all() {
        let definition = &definitions[entry.name];
        for version in entry.versions() {
            for seed in 0..24 {
                let richness = [0, 1, 2, 4][usize::try_from(seed % 4).unwrap()];
                let bytes = sample(definition, version, &mut Rng(seed), richness).bytes;
                let again = (entry.recode)(Bytes::from(bytes.clone()), version, version)
                    .unwrap_or_else(|e| panic!("{} {version} seed {seed}: {e:?}", entry.name));
                assert_eq!(again, bytes, "{} {version} seed {seed}", entry.name);
            }
        }
    }
}

#[test]
fn versions_outside_the_valid_ones_are_refused() {
    for entry in schema::messages::all() {
        for version in [entry.first - 1, entry.last + 1, i16::MIN, i16::MAX] {
            let refused = (entry.decode)(Bytes::from_static(&[0; 64]), version);
            assert!(
                matches!(refused, Err(esker_kafka::DecodeError::UnsupportedVersion { .. })),
                "{} {version}",
                entry.name
            );
        }
    }
}

#[test]
fn every_prefix_of_a_message_is_refused() {
    let definitions = schema::definition::load_all();
    for entry in schema::messages::all() {
        let bytes = Bytes::from(sample(&definitions[entry.name], entry.last, &mut Rng(7), 3).bytes);
        for cut in 0..bytes.len() {
            assert!(
                (entry.decode)(bytes.slice(..cut), entry.last).is_err(),
                "{} cut at {cut}",
                entry.name
            );
        }
    }
}
