//! `esker topic|group|cluster` on a node: what they do, what they print, and what they say when they refuse.

use std::process::{Command, Output};

use esker_kafka::messages::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use esker_kafka::messages::sync_group_request::{SyncGroupRequest, SyncGroupRequestAssignment};
use esker_kafka::{Str, assignor};
use esker_kafka_client::{Client, HostPort, Repeat, Settings, To};
use serde_json::{Value, json};

use crate::node::{BINARY, Node, dev, last_line, output};

fn asked(bootstrap: &str, args: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    command
        .args(args)
        .env("ESKER_BOOTSTRAP", bootstrap)
        .env_remove("ESKER_LOG");
    output(command)
}

/// What a command prints; it must succeed.
fn done(node: &Node, args: &[&str]) -> String {
    let output = asked(&node.field("kafka"), args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The objects that a command prints; it must succeed.
fn objects(node: &Node, args: &[&str]) -> Vec<Value> {
    let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
    let lines = done(node, &args);
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The last line of a command that must fail with this exit code.
fn refused(node: &Node, code: i32, args: &[&str]) -> String {
    let output = asked(&node.field("kafka"), args);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
    last_line(&output)
}

/// Writes this many records to partition 0.
fn write(node: &Node, topic: &str, records: usize) {
    let lines = "line\n".repeat(records);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), lines).unwrap();
    done(
        node,
        &[
            "produce",
            topic,
            file.path().to_str().unwrap(),
            "--partition",
            "0",
            "--quiet",
        ],
    );
}

/// The arguments of a command.
fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

#[test]
fn a_topic_is_created_changed_shown_and_deleted() {
    let node = Node::start(dev(&["--ephemeral"]));
    assert!(done(&node, &["topic", "list"]).contains("there are no topics"));
    assert_eq!(objects(&node, &["topic", "list"]), [json!(null); 0]);
    let created = done(
        &node,
        &words("topic create flights -p 2 --config retention.ms=86400000"),
    );
    assert_eq!(created, "created flights (2 partitions)\n");
    let again = refused(&node, 1, &["topic", "create", "flights"]);
    assert!(
        again.contains("TOPIC_ALREADY_EXISTS") && again.contains("--if-not-exists"),
        "{again}"
    );
    assert_eq!(
        done(&node, &["topic", "create", "flights", "--if-not-exists"]),
        "exists flights\n"
    );
    write(&node, "flights", 3);
    done(
        &node,
        &words("topic alter flights -p 3 --delete-config retention.ms --config max.message.bytes=2000"),
    );
    let described = objects(&node, &["topic", "describe", "flights"]).remove(0);
    assert_eq!(described["configs"], json!({"max.message.bytes": "2000"}));
    let latest: Vec<_> = described["partitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["latest"].clone())
        .collect();
    assert_eq!(latest, [json!(3), json!(0), json!(0)]);
    assert!(
        described["partitions"][0]["size_bytes"].as_i64().unwrap() > 0,
        "{described}"
    );
    let text = done(&node, &["topic", "describe", "flights", "--all"]);
    assert!(
        text.starts_with("flights: 3 partitions, ") && text.contains("  retention.ms=604800000\n"),
        "{text}"
    );
    assert!(done(&node, &["topic", "list", "--sizes"]).starts_with("TOPIC    PARTITIONS"));
    let slip = refused(&node, 1, &["topic", "describe", "flihgts"]);
    assert_eq!(slip, "error: there is no topic flihgts; did you mean flights?");
    let unasked = refused(&node, 2, &["topic", "delete", "flights"]);
    assert!(unasked.contains("--yes"), "{unasked}");
    assert_eq!(
        done(&node, &["topic", "delete", "flights", "--yes"]),
        "deleted flights\n"
    );
    done(&node, &["topic", "delete", "flights", "--yes", "--if-exists"]);
    let gone = refused(&node, 1, &["topic", "delete", "flights", "--yes"]);
    assert_eq!(
        gone,
        "error: there is no topic flights; `esker topic list` shows which there are"
    );
}

#[test]
fn what_is_wrong_is_said_with_what_to_do() {
    let node = Node::start(dev(&["--ephemeral"]));
    let config = refused(&node, 1, &["topic", "create", "x", "--config", "retention.mss=1"]);
    assert!(
        config.contains("cannot create topic x: INVALID_CONFIG: ") && config.contains("retention.mss"),
        "{config}"
    );
    assert!(refused(&node, 1, &["topic", "create", "a b"]).contains("a name has 1 to 249"));
    refused(&node, 2, &["topic", "alter", "x"]);
    refused(&node, 2, &["group", "reset-offsets", "g", "--topic", "x"]);
    refused(
        &node,
        2,
        &words("group reset-offsets g --topic x --to-latest --to-earliest"),
    );
    assert!(refused(&node, 1, &["group", "describe", "g"]).contains("there is no group g"));
    assert!(refused(&node, 2, &["help", "topcis"]).contains("did you mean topics?"));
    assert!(done(&node, &["help", "topics"]).starts_with("TOPICS\n"));
    assert!(done(&node, &["help", "topic", "create"]).contains("--if-not-exists"));
    // Nobody there, and somebody who does not speak Kafka.
    let nobody = asked("127.0.0.1:1", &["topic", "list"]);
    assert_eq!(nobody.status.code(), Some(1));
    let said = last_line(&nobody);
    assert!(
        said.contains("127.0.0.1:1: Connection refused") && said.contains("`esker dev` starts one"),
        "{said}"
    );
    let other = last_line(&asked(&node.field("http"), &["topic", "list"]));
    assert!(
        other.contains(&node.field("http")) && other.contains("is it the Kafka port?"),
        "{other}"
    );
}

#[test]
fn a_group_is_moved_shown_and_deleted() {
    let node = Node::start(dev(&["--ephemeral"]));
    done(&node, &["topic", "create", "flights", "-p", "2"]);
    write(&node, "flights", 10);
    let reset = |args: &[&str]| {
        let all: Vec<&str> = ["group", "reset-offsets", "reports"]
            .iter()
            .chain(args)
            .copied()
            .collect();
        let steps = objects(&node, &all);
        steps
            .iter()
            .map(|step| step["new"].as_i64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(reset(&["--topic", "flights", "--to-latest"]), [10, 0]);
    assert!(
        done(&node, &["group", "list"]).contains("there are no groups"),
        "a dry run commits nothing"
    );
    assert_eq!(reset(&["--topic", "flights:0,0", "--to-offset", "4", "--execute"]), [4]);
    assert_eq!(reset(&["--all-topics", "--shift-by", "-2", "--execute"]), [2]);
    assert_eq!(
        reset(&["--all-topics", "--shift-by", "-5"]),
        [0],
        "nothing lies before the first"
    );
    assert_eq!(
        reset(&["--all-topics", "--to-offset", "99"]),
        [10],
        "nothing lies behind the end"
    );
    assert_eq!(reset(&["--topic", "flights", "--to-current"]), [2, 0]);
    assert_eq!(
        reset(&["--topic", "flights", "--to-datetime", "1970-01-02T00:00:00Z"]),
        [0, 0]
    );
    assert_eq!(reset(&["--topic", "flights:0", "--by-duration", "1h"]), [0]);
    let described = objects(&node, &["group", "describe", "reports"]).remove(0);
    assert_eq!(described["state"], "Empty");
    let partition = &described["partitions"][0];
    assert_eq!((&partition["committed"], &partition["lag"]), (&json!(2), &json!(8)));
    let text = done(&node, &["group", "describe", "reports"]);
    assert!(
        text.starts_with("reports: Empty, 0 members, lag 8\nTOPIC    PARTITION  COMMITTED"),
        "{text}"
    );
    assert_eq!(objects(&node, &["group", "list"])[0]["group"], "reports");
    let missing = refused(
        &node,
        1,
        &[
            "group",
            "reset-offsets",
            "reports",
            "--topic",
            "flights:7",
            "--to-latest",
        ],
    );
    assert!(missing.contains("has no partition 7"), "{missing}");
    assert_eq!(
        done(&node, &["group", "delete", "reports", "--yes"]),
        "deleted reports\n"
    );
    assert!(refused(&node, 1, &["group", "delete", "reports", "--yes"]).contains("there is no group reports"));
}

/// Joins a group and takes both partitions of a topic; the connection is the member's life.
async fn join(client: &Client, group: &str) {
    let subscription = assignor::subscription(&[Str::from_static("flights")]).unwrap();
    let mut request = JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 30_000,
        protocol_type: Str::from_static("consumer"),
        protocols: vec![JoinGroupRequestProtocol {
            name: Str::from_static("range"),
            metadata: subscription,
        }],
        ..JoinGroupRequest::default()
    };
    let first = client
        .call(To::Group(group), Repeat::Harmful, &request, |_| Ok(()))
        .await
        .unwrap();
    request.member_id = first.member_id;
    let joined = client
        .call(To::Group(group), Repeat::Harmful, &request, |_| Ok(()))
        .await
        .unwrap();
    assert_eq!(joined.error_code, 0);
    let topics = [(Str::from_static("flights"), vec![0, 1])].into();
    let sync = SyncGroupRequest {
        group_id: group.into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        protocol_type: Some(Str::from_static("consumer")),
        protocol_name: joined.protocol_name,
        assignments: vec![SyncGroupRequestAssignment {
            member_id: joined.member_id,
            assignment: assignor::encode(Some(&topics)).unwrap(),
        }],
        ..SyncGroupRequest::default()
    };
    let synced = client
        .call(To::Group(group), Repeat::Harmful, &sync, |_| Ok(()))
        .await
        .unwrap();
    assert_eq!(synced.error_code, 0);
}

#[tokio::test]
async fn a_group_with_members_is_shown_and_neither_moved_nor_deleted() {
    let node = Node::start(dev(&["--ephemeral", "--set", "group.initial.rebalance.delay.ms=0"]));
    done(&node, &["topic", "create", "flights", "-p", "2"]);
    let mut settings = Settings::new(vec![HostPort::parse(&node.field("kafka")).unwrap()]);
    settings.client_id = Str::from_static("reader-1");
    join(&Client::new(settings), "live").await;
    let described = objects(&node, &["group", "describe", "live"]).remove(0);
    assert_eq!(
        (&described["state"], &described["assignor"]),
        (&json!("Stable"), &json!("range"))
    );
    assert_eq!(described["members"][0]["assigned"], json!({"flights": [0, 1]}));
    assert_eq!(described["partitions"][1]["member"], described["members"][0]["member"]);
    let text = done(&node, &["group", "describe", "live"]);
    assert!(text.contains("reader-1") && text.contains("flights:0,1"), "{text}");
    let refusal = refused(
        &node,
        1,
        &words("group reset-offsets live --topic flights --to-latest --execute"),
    );
    assert!(
        refusal.contains("has members (reader-1 on 127.0.0.1); stop them"),
        "{refusal}"
    );
    let refusal = refused(&node, 1, &["group", "delete", "live", "--yes"]);
    assert!(
        refusal.contains("NON_EMPTY_GROUP") && refusal.contains("stop its members first"),
        "{refusal}"
    );
}

#[test]
fn a_cluster_tells_of_its_agents() {
    let node = Node::start(dev(&["--ephemeral"]));
    done(&node, &["topic", "create", "flights", "-p", "3"]);
    let described = objects(&node, &["cluster", "describe"]).remove(0);
    assert_eq!(described["cluster"], node.field("cluster"));
    let agent = json!({"node": 1, "address": node.field("kafka"), "zone": null, "leads": 3});
    assert_eq!(described["agents"], json!([agent]));
    let text = done(&node, &["cluster", "describe"]);
    assert!(text.contains("holds       1 topic, 3 partitions\n"), "{text}");
}
