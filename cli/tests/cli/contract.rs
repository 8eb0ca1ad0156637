//! The command line as scripts rely on it: the ready line, exit codes, pages, messages. Runs the real binary.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use crate::node::{BINARY, Node, dev, last_line, output, scratch};

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: esker\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_node_says_ready_serves_its_pages_and_drains_on_sigterm() {
    let node = Node::start(dev(&["--ephemeral"]));
    let words: Vec<_> = node.ready.split_whitespace().collect();
    let names: Vec<_> = words.iter().map(|word| word.split('=').next().unwrap()).collect();
    assert_eq!(names, ["ready", "kafka", "grpc", "http", "cluster", "node"]);
    for listener in ["kafka", "grpc", "http"] {
        let port = node
            .field(listener)
            .strip_prefix("127.0.0.1:")
            .unwrap()
            .parse::<u16>()
            .unwrap();
        assert_ne!(port, 0);
    }
    let http = node.field("http");
    assert!(get(&http, "/readyz").starts_with("HTTP/1.1 200 "));
    let metrics = get(&http, "/metrics");
    for name in [
        "esker_store_requests_total",
        "esker_commits_total",
        "process_resident_memory_bytes",
    ] {
        assert!(metrics.contains(&format!("\n{name}")), "{name} is missing in {metrics}");
    }
    node.signal("TERM");
    let (status, log) = node.wait();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn sigint_drains_too() {
    let node = Node::start(dev(&["--ephemeral", "--log-format", "json"]));
    node.signal("INT");
    let (status, log) = node.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(
        log.lines().all(|line| line.starts_with('{') && line.ends_with('}')),
        "{log}"
    );
    assert!(log.contains("\"signal\":\"SIGINT\""), "{log}");
}

#[test]
fn a_data_directory_is_used_by_one_node_at_a_time() {
    let dir = scratch("one-at-a-time");
    let path = dir.to_str().unwrap();
    let node = Node::start(dev(&["--data-dir", path]));
    let second = output(dev(&["--data-dir", path]));
    assert_eq!(second.status.code(), Some(1));
    assert!(
        last_line(&second).starts_with("error: data directory "),
        "{}",
        last_line(&second)
    );
    assert!(
        last_line(&second).contains("is in use by another esker"),
        "{}",
        last_line(&second)
    );
    node.signal("KILL");
    node.wait();
    let again = Node::start(dev(&["--data-dir", path]));
    again.signal("TERM");
    assert_eq!(again.wait().0.code(), Some(0));
}

#[test]
fn a_node_founds_nothing_beside_the_objects_of_a_cluster_whose_metadata_is_gone() {
    let dir = scratch("metadata-gone");
    let path = dir.to_str().unwrap();
    let node = Node::start(dev(&["--data-dir", path]));
    let cluster = node.field("cluster");
    node.signal("TERM");
    assert_eq!(node.wait().0.code(), Some(0));
    let (metadata, kept) = (dir.join("metadata"), dir.join("kept"));
    std::fs::rename(&metadata, &kept).unwrap();
    for _ in 0..2 {
        let refused = output(dev(&["--data-dir", path]));
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        let said = last_line(&refused);
        assert!(
            said.contains("do not belong together") && said.contains(&cluster) && said.contains(path),
            "{said}"
        );
    }
    // The other way round: objects that this cluster has never seen.
    std::fs::remove_dir_all(&metadata).unwrap();
    std::fs::rename(&kept, &metadata).unwrap();
    let (objects, away) = (dir.join("objects"), dir.join("away"));
    std::fs::rename(&objects, &away).unwrap();
    let refused = output(dev(&["--data-dir", path]));
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(last_line(&refused).contains(&cluster), "{refused:?}");
    std::fs::remove_dir_all(&objects).unwrap();
    std::fs::rename(&away, &objects).unwrap();
    let again = Node::start(dev(&["--data-dir", path]));
    assert_eq!(again.field("cluster"), cluster);
    again.signal("TERM");
    assert_eq!(again.wait().0.code(), Some(0));
}

#[test]
fn a_port_in_use_is_a_failure_that_names_it() {
    let node = Node::start(dev(&["--ephemeral"]));
    let taken = node.field("http");
    let mut command = Command::new(BINARY);
    command.args([
        "dev",
        "--ephemeral",
        "--kafka",
        &taken,
        "--grpc",
        "127.0.0.1:0",
        "--http",
        "127.0.0.1:0",
    ]);
    let second = output(command);
    assert_eq!(second.status.code(), Some(1));
    assert!(
        last_line(&second).starts_with(&format!("error: cannot listen on --kafka {taken}: ")),
        "{second:?}"
    );
}

#[test]
fn wrong_arguments_and_settings_exit_with_2() {
    let unknown = output(dev(&["--ephemeral", "--set", "num.partition=1"]));
    assert_eq!(unknown.status.code(), Some(2));
    assert!(
        last_line(&unknown).contains("did you mean \"num.partitions\"?"),
        "{unknown:?}"
    );

    let mut by_environment = dev(&["--ephemeral"]);
    by_environment.env("ESKER_NUM_PARTITIONS", "none");
    let by_environment = output(by_environment);
    assert_eq!(by_environment.status.code(), Some(2));
    assert!(
        last_line(&by_environment).contains("ESKER_NUM_PARTITIONS"),
        "{by_environment:?}"
    );

    assert_eq!(output(dev(&["--ephemeral", "--kafkas", "x"])).status.code(), Some(2));
    assert_eq!(
        output(dev(&["--ephemeral", "--config", "/nonexistent.toml"]))
            .status
            .code(),
        Some(2)
    );
    assert_eq!(
        output(dev(&["--ephemeral", "--insecure-listen", "--kafka", "nowhere"]))
            .status
            .code(),
        Some(2)
    );
}

#[test]
fn a_configuration_file_is_overridden_by_environment_and_flags() {
    let dir = scratch("config");
    let file = dir.join("esker.toml");
    std::fs::write(&file, "\"num.partitions\" = 0\n").unwrap();
    let file = file.to_str().unwrap();
    let refused = output(dev(&["--ephemeral", "--config", file]));
    assert_eq!(refused.status.code(), Some(2));
    assert!(last_line(&refused).contains(file), "{refused:?}");
}

#[test]
fn version_and_completions_go_to_stdout() {
    let mut version = Command::new(BINARY);
    version.arg("--version");
    assert_eq!(
        output(version).stdout,
        format!("esker {}\n", env!("CARGO_PKG_VERSION")).into_bytes()
    );
    for shell in ["bash", "zsh", "fish"] {
        let mut completions = Command::new(BINARY);
        completions.args(["completions", shell]);
        let completions = output(completions);
        assert!(completions.status.success() && String::from_utf8_lossy(&completions.stdout).contains("data-dir"));
    }
}

#[test]
fn check_data_wants_a_directory_that_is_there() {
    let mut command = Command::new(BINARY);
    command.args(["check-data", "--data-dir", "/nonexistent/data"]);
    let refused = output(command);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        last_line(&refused).starts_with("error: there is no data directory /nonexistent/data"),
        "{refused:?}"
    );
}
