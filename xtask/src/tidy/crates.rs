//! Rules about crates: who may know whom, and what the pure ones are made of.
//!
//! Owns: the table of crates, which is the picture in `ARCHITECTURE.md` as data.
//!
//! Invariants: a crate that is not in the table is a finding, so that a new one gets its place on purpose.

use toml::{Table, Value};

use super::{File, Finding, Tree};

/// What a crate is allowed to know.
struct Place {
    name: &'static str,
    /// Crates of ours that it may depend on, tests included.
    knows: &'static [&'static str],
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// No IO, clock, randomness, logging or async: only these outside crates (`PURE`).
    Pure,
    /// A library.
    Library,
    /// A program or a chore: may use `anyhow`.
    Program,
}

/// Pure → seams → services → programs. Services never know each other.
const TABLE: &[Place] = &[
    Place {
        name: "esker-proto",
        knows: &[],
        kind: Kind::Library,
    },
    Place {
        name: "esker-client",
        knows: &["esker-proto"],
        kind: Kind::Library,
    },
    Place {
        name: "esker-kafka",
        knows: &[],
        kind: Kind::Pure,
    },
    Place {
        name: "esker-kafka-client",
        knows: &["esker-kafka"],
        kind: Kind::Library,
    },
    Place {
        name: "esker-segment",
        knows: &[],
        kind: Kind::Pure,
    },
    Place {
        name: "esker-model",
        knows: &["esker-segment"],
        kind: Kind::Pure,
    },
    Place {
        name: "esker-storage",
        knows: &["esker-segment"],
        kind: Kind::Library,
    },
    Place {
        name: "esker-metadata",
        knows: &["esker-model", "esker-segment", "esker-storage"],
        kind: Kind::Library,
    },
    Place {
        name: "esker-agent",
        knows: AGENT,
        kind: Kind::Library,
    },
    Place {
        name: "esker-compaction",
        knows: SEAMS,
        kind: Kind::Library,
    },
    Place {
        name: "esker",
        knows: BINARY,
        kind: Kind::Program,
    },
    Place {
        name: "esker-sim",
        knows: EVERYTHING,
        kind: Kind::Program,
    },
    Place {
        name: "esker-instructions",
        knows: EVERYTHING,
        kind: Kind::Program,
    },
    Place {
        name: "esker-proxy",
        knows: &["esker-storage"],
        kind: Kind::Program,
    },
    Place {
        name: "xtask",
        knows: &[],
        kind: Kind::Program,
    },
];

const AGENT: &[&str] = &[
    "esker-proto",
    "esker-kafka",
    "esker-segment",
    "esker-model",
    "esker-metadata",
    "esker-storage",
];
const SEAMS: &[&str] = &[
    "esker-kafka",
    "esker-segment",
    "esker-model",
    "esker-metadata",
    "esker-storage",
];
const BINARY: &[&str] = &[
    "esker-kafka",
    "esker-kafka-client",
    "esker-segment",
    "esker-model",
    "esker-metadata",
    "esker-storage",
    "esker-agent",
    "esker-compaction",
];
const EVERYTHING: &[&str] = &[
    "esker-kafka",
    "esker-segment",
    "esker-model",
    "esker-metadata",
    "esker-storage",
    "esker-agent",
    "esker-compaction",
];

/// Crates whose tests run against a broker that they do not know otherwise.
const TESTED_WITH_A_BROKER: [&str; 1] = ["esker-client"];

/// Everything from outside that a pure crate may be made of: bytes in, bytes out.
const PURE: [&str; 9] = [
    "bytes",
    "crc-fast",
    "flate2",
    "hashbrown",
    "lz4_flex",
    "snap",
    "thiserror",
    "xxhash-rust",
    "zstd",
];

const SECTIONS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

/// Crates of ours depend on each other as the table says.
pub(super) fn edges_match_the_table(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for (file, manifest, name) in packages(tree) {
        let Some(place) = TABLE.iter().find(|place| place.name == name) else {
            let message = format!("{name} has no place in the table of xtask/src/tidy/crates.rs");
            found.push(Finding::new(file, 1, message));
            continue;
        };
        for (section, dependency) in dependencies(&manifest) {
            let ours = TABLE.iter().any(|other| other.name == dependency);
            let tested = section == "dev-dependencies" && TESTED_WITH_A_BROKER.contains(&place.name);
            if ours && !tested && !place.knows.contains(&dependency.as_str()) {
                let message = format!("{name} must not know {dependency} ({section})");
                found.push(Finding::new(file, line_of(file, &dependency), message));
            }
        }
    }
    found
}

/// Pure crates are made of pure parts, and errors have types outside programs.
pub(super) fn outside_crates_match_the_table(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for (file, manifest, name) in packages(tree) {
        let Some(place) = TABLE.iter().find(|place| place.name == name) else {
            continue;
        };
        for (section, dependency) in dependencies(&manifest) {
            let ours = TABLE.iter().any(|other| other.name == dependency);
            if ours || section == "dev-dependencies" {
                continue;
            }
            let message = match place.kind {
                Kind::Pure if !PURE.contains(&dependency.as_str()) => {
                    format!("{name} is pure and must not use {dependency}; if that is pure too, say so in the table")
                }
                Kind::Library if dependency == "anyhow" => format!("{name} is a library: its errors need types"),
                Kind::Pure | Kind::Library | Kind::Program => continue,
            };
            found.push(Finding::new(file, line_of(file, &dependency), message));
        }
    }
    found
}

/// Every manifest of a package, with the package's name.
fn packages(tree: &Tree) -> impl Iterator<Item = (&File, Table, String)> {
    let manifests = tree
        .files
        .iter()
        .filter(|file| file.path.rsplit('/').next() == Some("Cargo.toml"));
    manifests.filter_map(|file| {
        // One that does not parse is cargo's to complain about.
        let manifest: Table = file.text.parse().ok()?;
        let name = manifest.get("package")?.get("name")?.as_str()?.to_owned();
        Some((file, manifest, name))
    })
}

/// All dependencies with their sections, those of `[target.…]` included.
fn dependencies(manifest: &Table) -> Vec<(&'static str, String)> {
    let targets = manifest
        .get("target")
        .and_then(Value::as_table)
        .into_iter()
        .flat_map(Table::values);
    let tables = std::iter::once(manifest).chain(targets.filter_map(Value::as_table));
    let mut all = Vec::new();
    for table in tables {
        for section in SECTIONS {
            let names = table
                .get(section)
                .and_then(Value::as_table)
                .into_iter()
                .flat_map(Table::iter);
            all.extend(names.map(|(name, spec)| (section, real_name(name, spec))));
        }
    }
    all
}

/// A dependency may go by another name here (`package = "…"`).
fn real_name(name: &str, spec: &Value) -> String {
    spec.get("package").and_then(Value::as_str).unwrap_or(name).to_owned()
}

fn line_of(file: &File, dependency: &str) -> usize {
    (1..)
        .zip(file.text.lines())
        .find(|(_, line)| line.contains(dependency))
        .map_or(1, |(number, _)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(rule: fn(&Tree) -> Vec<Finding>, name: &str, rest: &str) -> Vec<String> {
        let text = format!("[package]\nname = \"{name}\"\n{rest}");
        rule(&Tree::of(&[("x/Cargo.toml", &text)]))
            .into_iter()
            .map(|finding| finding.message)
            .collect()
    }

    #[test]
    fn an_edge_against_the_direction_is_found() {
        let found = messages(
            edges_match_the_table,
            "esker-storage",
            "[dependencies]\nesker-agent.workspace = true\n",
        );
        assert_eq!(found, ["esker-storage must not know esker-agent (dependencies)"]);
        let found = messages(
            edges_match_the_table,
            "esker-agent",
            "[dev-dependencies]\nesker-compaction = {}\n",
        );
        assert_eq!(found.len(), 1);
        let renamed = "[target.'cfg(unix)'.dependencies]\nx = { package = \"esker-model\" }\n";
        assert_eq!(messages(edges_match_the_table, "esker-segment", renamed).len(), 1);
        let allowed = "[dependencies]\nesker-segment.workspace = true\n";
        assert_eq!(messages(edges_match_the_table, "esker-model", allowed), [""; 0]);
    }

    #[test]
    fn a_crate_without_a_place_is_found() {
        assert_eq!(messages(edges_match_the_table, "esker-extra", "").len(), 1);
    }

    #[test]
    fn an_impure_part_of_a_pure_crate_is_found() {
        for part in ["tokio", "tracing", "metrics", "rand", "futures"] {
            let rest = format!("[dependencies]\n{part} = \"1\"\n");
            assert_eq!(
                messages(outside_crates_match_the_table, "esker-model", &rest).len(),
                1,
                "{part}"
            );
            assert_eq!(
                messages(outside_crates_match_the_table, "esker-agent", &rest).len(),
                0,
                "{part}"
            );
        }
        let fine = "[dependencies]\nbytes = \"1\"\n[dev-dependencies]\nproptest = \"1\"\n";
        assert_eq!(messages(outside_crates_match_the_table, "esker-model", fine), [""; 0]);
    }

    #[test]
    fn untyped_errors_in_a_library_are_found() {
        let rest = "[dependencies]\nanyhow = \"1\"\n";
        assert_eq!(messages(outside_crates_match_the_table, "esker-storage", rest).len(), 1);
        assert_eq!(messages(outside_crates_match_the_table, "esker", rest), [""; 0]);
    }

    #[test]
    fn the_table_has_no_circles() {
        // Everything that a crate knows stands above it.
        for (place, above) in TABLE.iter().zip(0..) {
            for known in place.knows {
                assert!(
                    TABLE[..above].iter().any(|other| other.name == *known),
                    "{} → {known}",
                    place.name
                );
            }
        }
    }
}
