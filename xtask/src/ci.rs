//! `cargo xtask ci`: everything that has to hold, one step after the other. It is also how the tests are run.
//!
//! Owns: the list of steps, the table and the closing line `N passed, N failed`.
//! Does not own: what the steps check, or getting what they need (each step gets its own).
//!
//! Invariants: a step that fails does not hide the next; a step that could not run has failed.

mod outcome;
mod runner;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};

use self::outcome::{Outcome, Report};

/// One thing that has to hold.
struct Step {
    name: &'static str,
    /// What it is for, in a few words.
    about: &'static str,
    commands: &'static [&'static [&'static str]],
    /// A step whose failure makes this one pointless.
    needs: Option<&'static str>,
}

/// In order: what fails fast comes first. A new kind of test is a new line here.
const STEPS: &[Step] = &[
    Step {
        name: "format",
        about: "rustfmt",
        commands: &[&["cargo", "fmt", "--all", "--check"]],
        needs: None,
    },
    Step {
        name: "codegen",
        about: "generated code is current",
        commands: &[&["xtask", "codegen", "--check"]],
        needs: None,
    },
    Step {
        name: "tidy",
        about: "rules of the house",
        commands: &[&["xtask", "tidy"]],
        needs: None,
    },
    Step {
        name: "deny",
        about: "licences, bans and sources of dependencies",
        commands: &[
            &["get-cargo-deny"],
            &["cargo", "deny", "--locked", "check", "licenses", "bans", "sources"],
        ],
        needs: None,
    },
    Step {
        name: "clippy",
        about: "lints, warnings are errors",
        commands: &[
            &[
                "cargo",
                "clippy",
                "--locked",
                "--workspace",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ],
            // What nobody builds by default still compiles.
            &[
                "cargo",
                "clippy",
                "--locked",
                "--package",
                "esker-storage",
                "--features",
                "gcp,azure",
                "--",
                "-D",
                "warnings",
            ],
        ],
        needs: None,
    },
    Step {
        name: "test",
        about: "unit and integration tests",
        commands: &[&["cargo", "test", "--locked", "--workspace", "--no-fail-fast"]],
        needs: None,
    },
    Step {
        name: "simulation",
        about: "a thousand seeds",
        // As the step before has built it: a package alone would be built anew, with features of its own.
        commands: &[&[
            "env",
            "ESKER_SIM_SEEDS=1000",
            "cargo",
            "test",
            "--locked",
            "--workspace",
            "--test",
            "seeds",
        ]],
        needs: None,
    },
    Step {
        name: "buckets",
        about: "the object store over real S3 servers, and with faults",
        commands: &[
            &[
                "infra/with-s3",
                "minio",
                "seaweedfs",
                "--",
                "cargo",
                "test",
                "--locked",
                "--package",
                "esker-storage",
                "--test",
                "servers",
            ],
            &[
                "infra/with-s3",
                "minio",
                "--",
                "cargo",
                "test",
                "--locked",
                "--package",
                "esker-proxy",
                "--test",
                "faulty",
            ],
        ],
        needs: None,
    },
    Step {
        name: "etcd",
        about: "the metadata store over real etcd, one and three members, 3.4 and 3.6",
        commands: &[
            &["infra/parts/get", "etcd-3.4", "etcd-3.6"],
            &[
                "cargo",
                "test",
                "--locked",
                "--package",
                "esker-metadata",
                "--test",
                "etcd",
                "--",
                // They mostly wait.
                "--test-threads=12",
            ],
        ],
        needs: None,
    },
    Step {
        name: "judge",
        about: "the codec against Kafka's own classes",
        commands: &[&["proto/kafka/judge/run"]],
        needs: None,
    },
    Step {
        name: "release",
        about: "the binary as it ships",
        // Together with what counts its instructions: the same parts with the same features, built once.
        commands: &[&[
            "cargo",
            "build",
            "--locked",
            "--release",
            "--package",
            "esker",
            "--package",
            "esker-instructions",
        ]],
        needs: None,
    },
    Step {
        name: "instructions",
        about: "what the hot paths cost, counted: instructions and allocations",
        commands: &[&["get-valgrind"], &["target/release/esker-instructions"]],
        needs: Some("release"),
    },
    Step {
        name: "credentials",
        about: "check-store with credentials from everywhere",
        commands: &[&["infra/with-s3", "minio", "--", "tests/credentials/run"]],
        needs: Some("release"),
    },
    Step {
        name: "clients",
        about: "stock Kafka clients, kill -9, bad input",
        commands: &[&["get-python"], &["tests/clients/run"]],
        needs: Some("release"),
    },
    Step {
        name: "cluster",
        about: "the same clients against three agents on three members of etcd and MinIO",
        commands: &[
            &["get-python"],
            &[
                "tests/clients/run",
                "--cluster",
                "kafka_records",
                "kafka_offsets",
                "groups",
                "admin",
                "other_clients",
                "flights",
            ],
        ],
        needs: Some("release"),
    },
    Step {
        name: "compat",
        about: "the quickest telling tests of librdkafka and franz-go",
        commands: &[&["get-python"], &["tests/compat/run", "ci"]],
        needs: Some("release"),
    },
    Step {
        name: "chaos",
        about: "agents killed, paused and cut off, etcd without its leader, a faulty bucket",
        commands: &[
            &["get-python"],
            &["cargo", "build", "--locked", "--release", "--package", "esker-proxy"],
            &["tests/clients/run", "chaos"],
        ],
        needs: Some("release"),
    },
];

/// Runs the named steps, or all.
pub(crate) fn run(args: &[&str]) -> Result<ExitCode> {
    if args == ["--list"] {
        let lines: Vec<_> = STEPS
            .iter()
            .map(|step| format!("{:<12} {}\n", step.name, step.about))
            .collect();
        std::io::stdout().write_all(lines.concat().as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(unknown) = args.iter().find(|arg| STEPS.iter().all(|step| step.name != **arg)) {
        bail!("there is no step {unknown:?}; `cargo xtask ci --list` lists them");
    }
    let chosen = STEPS.iter().filter(|step| args.is_empty() || args.contains(&step.name));
    let report = run_steps(chosen);
    std::io::stdout().write_all(report.to_string().as_bytes())?;
    Ok(if report.all_passed() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

#[expect(clippy::disallowed_methods, reason = "a chore may read the clock")]
fn run_steps<'a>(steps: impl Iterator<Item = &'a Step>) -> Report {
    let mut report = Report::default();
    for step in steps {
        let began = Instant::now();
        let outcome = match step.needs {
            Some(needed) if report.has_failed(needed) => Outcome::not_run(needed),
            Some(_) | None => runner::run_all(step.name, step.commands),
        };
        report.add(step.name, outcome, began.elapsed());
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_need_only_earlier_ones() {
        for (at, step) in STEPS.iter().enumerate() {
            if let Some(needed) = step.needs {
                assert!(
                    STEPS[..at].iter().any(|earlier| earlier.name == needed),
                    "{}",
                    step.name
                );
            }
        }
    }

    #[test]
    fn an_unknown_step_is_refused() {
        assert!(run(&["tests"]).is_err());
    }

    #[test]
    fn a_failed_step_fails_what_needs_it_and_nothing_else() {
        let step = |name, commands, needs| Step {
            name,
            about: "",
            commands,
            needs,
        };
        let steps = [
            step("a", &[&["false"] as &[_]] as &[_], None),
            step("b", &[&["true"]], Some("a")),
            step("c", &[&["true"]], None),
        ];
        let report = run_steps(steps.iter());
        assert!(report.has_failed("a") && report.has_failed("b") && !report.has_failed("c"));
        assert!(!report.all_passed());
        assert!(report.to_string().ends_with("\n1 passed, 2 failed\n"), "{report}");
    }
}
