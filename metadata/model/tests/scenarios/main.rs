//! Scenario files: logs written as text, with the verdicts that a person can review.
//!
//! Every `*.txt` here is run three ways: as it stands; with a checkpoint and a restart after every commit; with every
//! entry sent through its bytes. All must give the same answers. `UPDATE=1` writes what was found into the files.
//!
//! A line that is not indented is a command: an entry, which is one commit (`& ` puts it into the commit of the line
//! before), or a question, which begins with `?`. Below stand the answers, `  -> ` each.

#![allow(clippy::unwrap_used, reason = "these are tests")]
#![allow(clippy::disallowed_methods, reason = "UPDATE=1 is asked for outside of the model")]

mod ask;
mod parse;
#[path = "../support/recent.rs"]
mod recent;
mod show;
mod world;

use std::fs;
use std::path::{Path, PathBuf};

use world::{Mode, World};

/// A command of a scenario with the answers below it.
struct Step {
    /// Comments and empty lines before it.
    before: Vec<String>,
    command: String,
    answers: Vec<String>,
}

fn steps(text: &str) -> (Vec<Step>, Vec<String>) {
    let (mut steps, mut before): (Vec<Step>, Vec<String>) = (Vec::new(), Vec::new());
    for line in text.lines() {
        if let Some(answer) = line.strip_prefix("  -> ") {
            let step = steps.last_mut().expect("an answer follows a command");
            assert!(before.is_empty(), "a comment between command and answer: {line}");
            step.answers.push(answer.to_owned());
        } else if line.trim().is_empty() || line.starts_with('#') {
            before.push(line.to_owned());
        } else {
            assert!(!line.starts_with(' '), "indented, but no answer: {line}");
            steps.push(Step {
                before: std::mem::take(&mut before),
                command: line.to_owned(),
                answers: Vec::new(),
            });
        }
    }
    (steps, before)
}

/// Runs the commands and gives the file as it should be.
fn run(text: &str, mode: Mode) -> String {
    let (mut steps, after) = steps(text);
    let mut world = World::new(mode);
    let mut at = 0;
    while at < steps.len() {
        let entries = 1 + steps[at + 1..]
            .iter()
            .take_while(|step| step.command.starts_with("& "))
            .count();
        let commands: Vec<&str> = steps[at..at + entries]
            .iter()
            .map(|step| step.command.as_str())
            .collect();
        let answers = world.run(&commands);
        for (step, answers) in steps[at..].iter_mut().zip(answers) {
            step.answers = answers;
        }
        at += entries;
    }
    let mut out = Vec::new();
    for step in steps {
        out.extend(step.before);
        out.push(step.command);
        out.extend(step.answers.iter().map(|answer| format!("  -> {answer}")));
    }
    out.extend(after);
    out.join("\n") + "\n"
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|kind| kind == "txt"))
        .collect();
    files.sort();
    files
}

/// Says which lines differ.
fn difference(expected: &str, found: &str) -> String {
    let mut out = String::new();
    let (expected, found): (Vec<_>, Vec<_>) = (expected.lines().collect(), found.lines().collect());
    for at in 0..expected.len().max(found.len()) {
        let (wanted, got) = (expected.get(at).unwrap_or(&""), found.get(at).unwrap_or(&""));
        if wanted != got {
            out += &format!("  line {}\n    expected {wanted}\n    found    {got}\n", at + 1);
            break;
        }
    }
    out
}

#[test]
fn every_scenario_holds_however_it_is_run() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut failures = String::new();
    let files = files();
    assert!(files.len() >= 40, "scenarios are missing: {} found", files.len());
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        for mode in [Mode::Plain, Mode::RestartAlways, Mode::ThroughBytes] {
            let found = run(&text, mode);
            if found == text {
                continue;
            }
            if update && mode == Mode::Plain {
                fs::write(&path, &found).unwrap();
                break;
            }
            failures += &format!("{} ({mode:?})\n{}", path.display(), difference(&text, &found));
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}

#[test]
fn a_wrong_answer_in_a_scenario_is_noticed() {
    let text = "topic t\n  -> created\nsegment s1: t/0 count=3\n  -> stored base=0\n";
    assert_eq!(run(text, Mode::Plain), text);
    let wrong = text.replace("base=0", "base=1");
    assert_ne!(run(&wrong, Mode::Plain), wrong);
}
