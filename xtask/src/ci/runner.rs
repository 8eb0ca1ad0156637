//! Running the commands of a step: output goes through as it comes, and counts are read from it on the way.
//!
//! Owns: child processes, the few words that are ours (`xtask`, `get-…`).

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result, anyhow};

use super::outcome::{Counts, Outcome};

/// Kept in cargo's own directory, so that it is built once a machine (2 to 3 minutes).
const CARGO_DENY: &str = "cargo-deny@0.20.2";

/// Runs the commands of a step until one fails.
pub(super) fn run_all(step: &str, commands: &[&[&str]]) -> Outcome {
    let mut counted = Counts::default();
    for words in commands {
        say(&format!("\n==> {step}: {}\n", words.join(" ")));
        let ran = command(words).and_then(|command| command.map_or(Ok(None), |command| run_one(command, &mut counted)));
        let failure = match ran {
            Ok(None) => continue,
            Ok(Some(status)) => format!("{} ({status})", words.join(" ")),
            Err(error) => format!("{error:#}"),
        };
        return Outcome {
            counted,
            failure: Some(failure),
        };
    }
    Outcome { counted, failure: None }
}

/// What to run for these words; `None` if there is nothing to do.
fn command(words: &[&str]) -> Result<Option<Command>> {
    let (program, args) = words.split_first().ok_or_else(|| anyhow!("an empty command"))?;
    let mut command = match *program {
        "xtask" => Command::new(std::env::current_exe().context("cannot find myself")?),
        "get-cargo-deny" if is_there("cargo", &["deny", "--version"]) => return Ok(None),
        "get-cargo-deny" => words_to_command("cargo", &["install", "--locked", CARGO_DENY]),
        "get-python" if is_there("python3", &["--version"]) => return Ok(None),
        "get-python" => words_to_command(
            "sh",
            &["-c", "apt-get update -q && apt-get install -qy python3 python3-venv"],
        ),
        "get-valgrind" if is_there("valgrind", &["--version"]) => return Ok(None),
        "get-valgrind" => words_to_command(
            "sh",
            &[
                "-c",
                "apt-get update -q && apt-get install -qy --no-install-recommends valgrind libc6-dbg",
            ],
        ),
        program => Command::new(program),
    };
    command.args(args).current_dir(crate::root());
    Ok(Some(command))
}

fn words_to_command(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    command
}

fn is_there(program: &str, args: &[&str]) -> bool {
    words_to_command(program, args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|ran| ran.success())
}

/// `None` if it succeeded.
fn run_one(mut command: Command, counted: &mut Counts) -> Result<Option<ExitStatus>> {
    let program = command.get_program().to_string_lossy().into_owned();
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = spawned.with_context(|| format!("cannot run {program}"))?;
    let output = child.stdout.take().context("the output was not piped")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        say(&format!("{line}\n"));
        if let Some(counts) = Counts::of_line(&line) {
            counted.add(counts);
        }
    }
    let status = child.wait().with_context(|| format!("lost track of {program}"))?;
    Ok((!status.success()).then_some(status))
}

fn say(text: &str) {
    // What the tests of this module run must not be counted by a run of the steps that runs them.
    if cfg!(test) {
        return;
    }
    // Whoever closed stdout does not want to hear it.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_come_from_the_output_and_failure_from_the_exit_code() {
        let outcome = run_all(
            "a",
            &[
                &["echo", "7 passed, 0 failed"],
                &["sh", "-c", "echo 1 passed, 2 failed; exit 3"],
            ],
        );
        assert_eq!(outcome.counted, Counts { passed: 8, failed: 2 });
        assert!(outcome.failure.is_some_and(|why| why.contains('3')));
    }

    #[test]
    fn a_program_that_is_not_there_is_a_failure() {
        let outcome = run_all("a", &[&["no-such-program-here"]]);
        assert!(
            outcome
                .failure
                .is_some_and(|why| why.contains("cannot run no-such-program-here"))
        );
    }
}
