//! The command lines of the README do what it says: every ```console block is run, and its output compared.
//!
//! Owns: which blocks are run, what may differ.
//!
//! A block is what somebody would see who starts `esker dev` in an empty directory; blocks of a file follow each other on the same
//! node. Each line of output must be as it is written, but for ports, ids (22 characters), width of columns, and `…`, which stands for
//! anything on a line. A command may fail only where its output says `error:`. ```console elsewhere is not run: that is for what needs more than
//! this machine has.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::node::{BINARY, Node, dev, scratch};

const FILES: [&str; 1] = ["README.md"];
/// How blocks begin; a console block that begins otherwise is a mistake.
const RUN: &str = "```console";
const NOT_RUN: &str = "```console elsewhere";
/// Characters of a cluster's or topic's id.
const ID_CHARS: usize = 22;

/// A command and the lines that follow it.
struct Step {
    line: usize,
    command: String,
    output: Vec<String>,
}

/// The steps of all blocks that are run.
fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for (number, line) in (1..).zip(text.lines()) {
        if inside && line == "```" {
            inside = false;
        } else if inside {
            match line.strip_prefix("$ ") {
                Some(command) => steps.push(Step {
                    line: number,
                    command: command.to_owned(),
                    output: Vec::new(),
                }),
                None => steps
                    .last_mut()
                    .expect("a block begins with a command")
                    .output
                    .push(line.to_owned()),
            }
        } else if line.starts_with(RUN) {
            assert!(
                line == RUN || line == NOT_RUN,
                "line {number}: {line} is neither {RUN} nor {NOT_RUN}"
            );
            inside = line == RUN;
        }
    }
    steps
}

/// A line without what differs from run to run.
fn settled(line: &str) -> String {
    let mut settled = String::new();
    let mut word = String::new();
    let end = |word: &mut String, settled: &mut String| {
        settled.push_str(if word.len() == ID_CHARS { "ID" } else { word });
        word.clear();
    };
    for one in line.chars() {
        if one.is_ascii_alphanumeric() || one == '-' || one == '_' {
            word.push(one);
            continue;
        }
        end(&mut word, &mut settled);
        // Columns are as wide as what is in them.
        if one != ' ' || !settled.ends_with("  ") {
            settled.push(one);
        }
    }
    end(&mut word, &mut settled);
    settled.trim_end().to_owned()
}

/// Whether a line is as it is written; `…` stands for anything.
fn is_like(line: &str, written: &str) -> bool {
    let (line, written) = (settled(line), settled(written));
    let mut parts = written.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// A node, and somewhere to run commands.
struct Session {
    node: Node,
    ports: Vec<(String, &'static str)>,
    path: String,
    dir: std::path::PathBuf,
}

impl Session {
    fn start(name: &str) -> Self {
        let dir = scratch(name);
        let bin = dir.join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::os::unix::fs::symlink(BINARY, bin.join("esker")).unwrap();
        let node = Node::start(dev(&["--ephemeral"]));
        let told = [
            ("kafka", "127.0.0.1:9092"),
            ("grpc", "127.0.0.1:9095"),
            ("http", "127.0.0.1:9096"),
        ];
        let ports = told.map(|(name, usual)| (node.field(name), usual)).to_vec();
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        Self { node, ports, path, dir }
    }

    /// What a command prints, with the ports that everybody has, and whether it succeeds.
    fn run(&self, command: &str) -> (Vec<String>, bool) {
        if command.starts_with("esker dev") && command.ends_with('&') {
            return (self.told(&self.node.ready), true);
        }
        let mut here = command.to_owned();
        for (port, usual) in &self.ports {
            here = here.replace(usual, port);
        }
        let done = Command::new("sh")
            .args(["-c", &format!("{{ {here}\n}} 2>&1")])
            .current_dir(&self.dir)
            .env("PATH", &self.path)
            .env("ESKER_BOOTSTRAP", &self.ports[0].0)
            .env_remove("ESKER_LOG")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (self.told(&String::from_utf8_lossy(&done.stdout)), done.status.success())
    }

    fn told(&self, output: &str) -> Vec<String> {
        let mut told = output.to_owned();
        for (port, usual) in &self.ports {
            told = told.replace(port, usual);
        }
        told.lines().map(str::to_owned).collect()
    }
}

#[test]
fn transcripts_are_true() {
    for file in FILES {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
        let steps = steps(&std::fs::read_to_string(&path).unwrap());
        assert!(steps.len() >= 10, "{file} shows {} commands", steps.len());
        let session = Session::start("transcripts");
        for Step { line, command, output } in steps {
            let (printed, succeeded) = session.run(&command);
            let same =
                printed.len() == output.len() && printed.iter().zip(&output).all(|(one, other)| is_like(one, other));
            assert!(
                same,
                "{file}, line {line}: $ {command}\nprints\n{}\nbut is said to print\n{}",
                printed.join("\n"),
                output.join("\n")
            );
            let may_fail = output.iter().any(|line| line.starts_with("error: "));
            assert_eq!(succeeded, !may_fail, "{file}, line {line}: $ {command}");
        }
    }
}

#[test]
fn what_may_differ_is_little() {
    assert!(is_like(
        "ready kafka=127.0.0.1:9092 cluster=S-ZxBik_xSJak-qMmBnHzQ",
        "ready kafka=127.0.0.1:9092 cluster=AAAABBBBCCCCDDDDEEEEFF"
    ));
    assert!(is_like("NODE  ADDRESS              ZONE", "NODE  ADDRESS         ZONE"));
    assert!(is_like("written in 12 ms", "written in …"));
    assert!(is_like("a 1 b 2 c", "a … b … c"));
    for (line, written) in [
        ("flights 6", "flights 7"),
        ("a b", "a"),
        ("a", "a b"),
        ("x 1 b", "a … b"),
        ("a 1 c", "a … b"),
    ] {
        assert!(!is_like(line, written), "{line} / {written}");
    }
    let text = "```console\n$ a\nb\n```\n```sh\n$ c\n```\n```console elsewhere\n$ d\n```\n";
    let found: Vec<_> = steps(text)
        .into_iter()
        .map(|step| (step.command, step.output))
        .collect();
    assert_eq!(found, [("a".to_owned(), vec!["b".to_owned()])]);
}
