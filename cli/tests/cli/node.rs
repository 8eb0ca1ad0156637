//! A node of the real binary, and commands of it.
//!
//! Owns: free ports, an environment without settings, that no node outlives its test.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_esker");
const FREE_PORTS: [&str; 6] = [
    "--kafka",
    "127.0.0.1:0",
    "--grpc",
    "127.0.0.1:0",
    "--http",
    "127.0.0.1:0",
];

pub(crate) fn dev(args: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.arg("dev").args(FREE_PORTS).args(args);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ESKER_") {
            command.env_remove(name);
        }
    }
    command
}

pub(crate) fn output(mut command: Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

pub(crate) fn last_line(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr)
        .lines()
        .last()
        .unwrap_or_default()
        .to_owned()
}

/// A node that said it is ready; killed when dropped.
pub(crate) struct Node {
    child: Child,
    pub(crate) ready: String,
}

impl Node {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut ready)
            .unwrap();
        Self { child, ready }
    }

    pub(crate) fn field(&self, name: &str) -> String {
        let prefix = format!("{name}=");
        let value = self
            .ready
            .split_whitespace()
            .find_map(|word| word.strip_prefix(&prefix));
        value
            .unwrap_or_else(|| panic!("no {name} in {:?}", self.ready))
            .to_owned()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args(["-s", name, &self.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// How it ended, and what it logged.
    pub(crate) fn wait(mut self) -> (ExitStatus, String) {
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap(), log)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Gone already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn scratch(name: &str) -> std::path::PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}
