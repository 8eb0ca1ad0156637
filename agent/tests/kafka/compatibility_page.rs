//! `docs/compatibility.md` says what is served, and names tests that exist.

use std::fs;
use std::path::{Path, PathBuf};

use esker_agent::kafka::dispatch::SERVED;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn page() -> String {
    fs::read_to_string(root().join("docs/compatibility.md")).unwrap()
}

/// All Rust sources of the crate, its tests included.
fn sources(dir: &Path, found: &mut String) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_api_stands_on_the_page_with_its_versions() {
    let page = page();
    let rows = page.lines().filter(|line| line.starts_with("| ") && line.contains('|'));
    let rows: Vec<&str> = rows.collect();
    for key in SERVED {
        let versions = key.advertised_versions();
        let range = if versions.first == versions.last {
            versions.first.to_string()
        } else {
            format!("{}-{}", versions.first, versions.last)
        };
        let wanted = format!("| {} | {} | {range} |", key.code(), key.name());
        assert!(rows.iter().any(|row| row.starts_with(&wanted)), "{wanted}");
    }
}

#[test]
fn every_test_on_the_page_exists() {
    let mut code = String::new();
    sources(&root().join("agent"), &mut code);
    let page = page();
    let quoted = page.split('`').skip(1).step_by(2);
    let is_test = |name: &&str| {
        let plain = name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        // Topics of Kafka's own begin with two.
        plain && name.matches('_').count() >= 3 && !name.starts_with("__")
    };
    let names: Vec<&str> = quoted.filter(is_test).collect();
    assert!(names.len() > 50, "{}", names.len());
    for name in names {
        assert!(code.contains(&format!("fn {name}()")), "there is no test {name}");
    }
}
