//! The pages of `docs/` that follow from tables in the code are current. `cargo xtask reference` writes them.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

use esker_agent::{settings, telemetry};

fn is_current(page: &str, wanted: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(page);
    if std::env::var_os("WRITE_REFERENCE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "docs/{page} is not what the code says; run `cargo xtask reference`"
    );
}

#[test]
fn the_configuration_page_is_current() {
    is_current("configuration.md", &settings::reference::page());
}

#[test]
fn the_metrics_page_is_current() {
    is_current("metrics.md", &telemetry::reference::page());
}
