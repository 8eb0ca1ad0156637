//! Real etcd servers: started, killed, stopped, and gone when the test process is.
//!
//! Owns: processes, ports and data directories. Programs come from `infra/parts/get`; without them tests fail.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use esker_metadata::etcd::{EtcdSettings, EtcdStore};

/// Names the directory of the programs, if it is not target/parts/bin.
const PARTS: &str = "ESKER_PARTS";

/// A version that is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V3_4,
    V3_6,
}

impl Version {
    const fn suffix(self) -> &'static str {
        match self {
            Self::V3_4 => "3.4",
            Self::V3_6 => "3.6",
        }
    }

    /// One of etcd's programs.
    pub(crate) fn program(self, name: &str) -> PathBuf {
        let bin = std::env::var_os(PARTS).map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/parts/bin"),
            PathBuf::from,
        );
        let program = bin.join(format!("{name}-{}", self.suffix()));
        assert!(
            program.exists(),
            "{} is missing: run infra/parts/get etcd-{}",
            program.display(),
            self.suffix()
        );
        program
    }
}

/// One member. It dies with this value, and with the test process.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) client_port: u16,
    peer_port: u16,
    name: String,
    data: PathBuf,
    process: Option<Process>,
}

/// A shell that kills etcd as soon as nobody holds its stdin any more.
#[derive(Debug)]
struct Process {
    shell: Child,
    pid: String,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.shell.stdin.take();
        let _reaped = self.shell.wait();
    }
}

/// Some members.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) version: Version,
    pub(crate) members: Vec<Member>,
    flags: Vec<String>,
    scheme: &'static str,
    token: String,
    _directory: tempfile::TempDir,
}

impl Cluster {
    /// Starts members and waits until each answers.
    pub(crate) async fn start(version: Version, members: usize, flags: &[&str]) -> Self {
        let mut cluster = Self::new(version, members, flags);
        for at in 0..members {
            cluster.run(at);
        }
        cluster.wait_until_all_answer().await;
        cluster
    }

    /// Members that are not started.
    pub(crate) fn new(version: Version, members: usize, flags: &[&str]) -> Self {
        static TOKENS: AtomicU64 = AtomicU64::new(0);
        let directory = tempfile::tempdir().unwrap();
        let members = (0..members)
            .map(|at| Member {
                client_port: free_port(),
                peer_port: free_port(),
                name: format!("m{at}"),
                data: directory.path().join(format!("m{at}")),
                process: None,
            })
            .collect();
        Self {
            version,
            members,
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            scheme: "http",
            token: format!(
                "esker-{}-{}",
                std::process::id(),
                TOKENS.fetch_add(1, Ordering::Relaxed)
            ),
            _directory: directory,
        }
    }

    /// Clients have to use TLS from the start on, with the flags that were given.
    pub(crate) fn encrypted(mut self) -> Self {
        self.scheme = "https";
        self
    }

    /// Starts a member, or starts it again.
    pub(crate) fn run(&mut self, at: usize) {
        let peers: Vec<String> = (self.members.iter())
            .map(|member| format!("{}=http://127.0.0.1:{}", member.name, member.peer_port))
            .collect();
        let member = &mut self.members[at];
        let client = format!("{}://127.0.0.1:{}", self.scheme, member.client_port);
        let peer = format!("http://127.0.0.1:{}", member.peer_port);
        let log = std::fs::File::create(member.data.with_extension("log")).unwrap();
        let mut shell = Command::new("sh")
            .args(["-c", r#""$@" & echo $!; read -r _; kill -9 $!"#, "sh"])
            .arg(self.version.program("etcd"))
            .args(["--name", &member.name, "--data-dir"])
            .arg(&member.data)
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args([
                "--initial-cluster",
                &peers.join(","),
                "--initial-cluster-token",
                &self.token,
            ])
            .args(&self.flags)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut pid = String::new();
        BufReader::new(shell.stdout.take().unwrap())
            .read_line(&mut pid)
            .unwrap();
        let pid = pid.trim().to_owned();
        member.process = Some(Process { shell, pid });
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self, at: usize) {
        self.members[at].process = None;
    }

    /// Sends a signal, for example STOP or CONT.
    pub(crate) fn signal(&self, at: usize, signal: &str) {
        let pid = &self.members[at].process.as_ref().unwrap().pid;
        assert!(
            Command::new("kill")
                .args([&format!("-{signal}"), pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Takes a backup of the whole key space.
    pub(crate) fn back_up(&self) -> PathBuf {
        let to = self.members[0].data.with_extension("backup");
        self.ctl(&[0], &["snapshot", "save", to.to_str().unwrap()]);
        to
    }

    /// Replaces what the only member holds by a backup. It must not run.
    pub(crate) fn restore(&mut self, backup: &Path) {
        let member = &mut self.members[0];
        std::fs::remove_dir_all(&member.data).unwrap();
        // 3.6 has a program of its own for it.
        let program = match self.version {
            Version::V3_4 => "etcdctl",
            Version::V3_6 => "etcdutl",
        };
        let peer = format!("http://127.0.0.1:{}", member.peer_port);
        let restored = Command::new(self.version.program(program))
            .env("ETCDCTL_API", "3")
            .args(["snapshot", "restore"])
            .arg(backup)
            .args(["--name", &member.name, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("{}={peer}", member.name)])
            .args(["--initial-cluster-token", &self.token, "--data-dir"])
            .arg(&member.data)
            .output()
            .unwrap();
        assert!(
            restored.status.success(),
            "{}",
            String::from_utf8_lossy(&restored.stderr)
        );
    }

    /// Which member leads.
    pub(crate) fn leader(&self) -> usize {
        let found = (0..self.members.len()).find(|at| {
            let status = self.ctl(&[*at], &["endpoint", "status", "--write-out=json"]);
            let status: String = status.chars().filter(|char| !char.is_whitespace()).collect();
            let id = number_after(&status, "\"member_id\":");
            id.is_some() && id == number_after(&status, "\"leader\":")
        });
        found.expect("somebody leads")
    }

    /// Runs etcdctl against some members, and says what it printed.
    pub(crate) fn ctl(&self, at: &[usize], args: &[&str]) -> String {
        let output = Command::new(self.version.program("etcdctl"))
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints={}", self.endpoints_of(at).join(",")))
            .args(args)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "etcdctl {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.endpoints_of(&(0..self.members.len()).collect::<Vec<_>>())
    }

    pub(crate) fn endpoints_of(&self, at: &[usize]) -> Vec<String> {
        let endpoint = |at: &usize| format!("{}://127.0.0.1:{}", self.scheme, self.members[*at].client_port);
        at.iter().map(endpoint).collect()
    }

    /// The usual settings for all members.
    pub(crate) fn settings(&self, prefix: &str) -> EtcdSettings {
        EtcdSettings::new(self.endpoints(), prefix)
    }

    /// A store over all members.
    pub(crate) async fn store(&self, prefix: &str) -> EtcdStore {
        EtcdStore::connect(self.settings(prefix)).await.unwrap()
    }

    async fn wait_until_all_answer(&self) {
        if self.scheme == "https" {
            // Only who has the certificates can ask.
            return;
        }
        for at in 0..self.members.len() {
            self.wait_for(at).await;
        }
    }

    /// Waits until a member answers.
    pub(crate) async fn wait_for(&self, at: usize) {
        let settings = EtcdSettings::new(self.endpoints_of(&[at]), "");
        let answers = async {
            while EtcdStore::connect(settings.clone()).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(60), answers).await.is_err() {
            let log = std::fs::read_to_string(self.members[at].data.with_extension("log")).unwrap_or_default();
            panic!("etcd does not answer:\n{log}");
        }
    }
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn number_after(text: &str, key: &str) -> Option<u64> {
    let digits: String = (text.split_once(key)?.1.chars())
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().ok()
}
