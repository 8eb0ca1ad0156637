//! `esker help`: pages about what goes beyond one command, and the help of commands.
//!
//! Owns: which pages there are, and their text (`help/*.txt`).
//! Does not own: flags (`args`, and the command that has them).
//!
//! Invariants: every command line in a page is one that `esker` takes; a test parses them all.

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::Context as _;
use clap::{Args, Command};

use crate::{UsageError, advice};

/// A page: its name, what it is about, and its text.
struct Page {
    name: &'static str,
    about: &'static str,
    text: &'static str,
}

/// In the order in which they are read best.
const PAGES: [Page; 8] = [
    Page {
        name: "topics",
        about: "What a topic is, and its life from create to delete",
        text: include_str!("help/topics.txt"),
    },
    Page {
        name: "groups",
        about: "How consumers share a topic, and what lag is",
        text: include_str!("help/groups.txt"),
    },
    Page {
        name: "offsets",
        about: "Where a record is, where reading begins, how to move it",
        text: include_str!("help/offsets.txt"),
    },
    Page {
        name: "formats",
        about: "How records look: lines, JSON, keys, headers, bytes that are not text",
        text: include_str!("help/formats.txt"),
    },
    Page {
        name: "configuration",
        about: "Where settings come from, and who has the last word",
        text: include_str!("help/configuration.txt"),
    },
    Page {
        name: "storage",
        about: "What lies where, and what may be deleted by hand",
        text: include_str!("help/storage.txt"),
    },
    Page {
        name: "durability",
        about: "What an acknowledgement promises, and what it costs",
        text: include_str!("help/durability.txt"),
    },
    Page {
        name: "bench",
        about: "How to measure a cluster, and what the numbers mean",
        text: include_str!("help/bench.txt"),
    },
];

/// What is to be explained.
#[derive(Args, Debug)]
pub(crate) struct HelpArgs {
    /// A topic or a command [default: the list of both]
    #[arg(value_name = "TOPIC|COMMAND")]
    about: Option<String>,
    /// A command of that command
    #[arg(value_name = "COMMAND")]
    then: Vec<String>,
}

/// The command line with the pages in its help.
pub(crate) fn explaining(cli: Command) -> Command {
    cli.after_help(format!("Topics of `esker help TOPIC`:\n{}", list()))
}

/// Explains on stdout.
pub(crate) fn run(args: HelpArgs, mut cli: Command) -> anyhow::Result<()> {
    let text = text(args, &mut cli)?;
    let written = std::io::stdout().write_all(text.as_bytes());
    written.context("cannot write to stdout")
}

fn text(args: HelpArgs, cli: &mut Command) -> Result<String, UsageError> {
    let Some(about) = args.about else {
        return Ok(cli.render_long_help().to_string());
    };
    cli.build();
    if let Some(page) = PAGES.iter().find(|page| page.name == about)
        && args.then.is_empty()
    {
        let command = cli.find_subcommand_mut(&about);
        let flags = command.map_or_else(String::new, |command| format!("\n{}", command.render_long_help()));
        return Ok(format!("{}{flags}", page.text));
    }
    let mut command = cli;
    let mut pages: Vec<&str> = PAGES.iter().map(|page| page.name).collect();
    for word in [about].into_iter().chain(args.then) {
        let commands = command.get_subcommands().map(|one| one.get_name().to_owned());
        let commands: Vec<String> = commands.collect();
        let known = commands.iter().map(String::as_str).chain(pages.drain(..));
        let meant = match advice::nearest(&word, known) {
            Some(name) => format!("did you mean {name}?"),
            None => "`esker help` lists what there is".to_owned(),
        };
        let refusal = format!("there is no help about {word:?}; {meant}");
        command = command.find_subcommand_mut(&word).ok_or(UsageError(refusal))?;
    }
    Ok(command.render_long_help().to_string())
}

/// The pages, one a line.
fn list() -> String {
    let mut list = String::new();
    for Page { name, about, .. } in &PAGES {
        writeln!(list, "  {name:<14} {about}").expect("writing to a string does not fail");
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args;

    fn asked(words: &[&str]) -> Result<String, UsageError> {
        let mut words = words.iter().map(|word| (*word).to_owned());
        let about = words.next();
        let then = words.collect();
        text(HelpArgs { about, then }, &mut args::command())
    }

    #[test]
    fn pages_fit_a_terminal_and_say_something() {
        for Page { name, text, .. } in &PAGES {
            assert!(text.lines().count() >= 15, "{name} is not worth reading");
            assert!(text.ends_with('\n') && !text.contains('\t'), "{name}");
            let long = text.lines().find(|line| line.chars().count() > 100);
            assert_eq!(long, None, "{name}");
        }
    }

    /// Command lines are indented by four and begin with `esker`.
    #[test]
    fn command_lines_of_pages_are_taken() {
        let mut found = 0;
        for Page { name, text, .. } in &PAGES {
            for line in text.lines().filter_map(|line| line.strip_prefix("    esker ")) {
                let line = line.split(" | ").next().unwrap_or(line);
                let line = line.split("  #").next().unwrap_or(line);
                let words = line.split_whitespace().map(|word| word.trim_matches('\''));
                let parsed = args::command().try_get_matches_from(std::iter::once("esker").chain(words));
                assert!(parsed.is_ok(), "{name}: esker {line}: {}", parsed.unwrap_err());
                found += 1;
            }
        }
        assert!(found > 30, "{found} command lines are not many");
    }

    #[test]
    fn commands_and_their_commands_are_explained_and_others_refused() {
        assert!(asked(&["topic", "create"]).unwrap().contains("--if-not-exists"));
        assert!(asked(&["topics"]).unwrap().contains("partition"));
        let bench = asked(&["bench"]).unwrap();
        assert!(
            bench.starts_with("BENCH\n") && bench.contains("Usage: esker bench"),
            "{bench}"
        );
        assert!(asked(&[]).unwrap().contains("durability"));
        assert!(
            asked(&["topic", "destroy"])
                .unwrap_err()
                .to_string()
                .contains("destroy")
        );
        assert!(asked(&["topics", "create"]).is_err());
    }
}
