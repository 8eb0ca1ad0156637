//! `esker produce`, `esker consume` and `esker bench` against a real `esker dev`: what goes in comes out, byte for byte.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use esker_kafka_client::{Client, HostPort, Settings};
use tokio::time::Instant;

use crate::node::{BINARY, Node, dev};

/// A node, and commands of the same binary that speak to it.
struct Broker(Node);

impl Broker {
    fn start() -> Self {
        Self(Node::start(dev(&["--ephemeral"])))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(args).env("ESKER_BOOTSTRAP", self.0.field("kafka"));
        command
    }

    fn run(&self, args: &[&str], input: &[u8]) -> Output {
        let mut command = self.command(args);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // It may end before it has read everything.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        output
    }

    /// What a command that succeeds prints.
    fn ok(&self, args: &[&str], input: &[u8]) -> Vec<u8> {
        let output = self.run(args, input);
        assert!(output.status.success(), "{args:?}: {output:?}");
        output.stdout
    }

    fn text(&self, args: &[&str], input: &[u8]) -> String {
        String::from_utf8(self.ok(args, input)).unwrap()
    }

    /// The last line of a command that fails, and its exit code.
    fn refused(&self, args: &[&str], input: &[u8]) -> (String, i32) {
        let output = self.run(args, input);
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rfind(|line| line.starts_with("error: "));
        let last = last.unwrap_or_else(|| panic!("{args:?} does not say what is wrong: {output:?}"));
        (last.to_owned(), output.status.code().unwrap())
    }
}

#[test]
fn lines_come_back_as_they_were() {
    let node = Broker::start();
    let lines = b"N14228,EWR,IAH\n\n\xff\x00binary\r\nlast";
    node.ok(&["produce", "lines"], lines);
    assert_eq!(node.ok(&["consume", "lines"], b""), [&lines[..], b"\n"].concat());
    assert_eq!(
        node.text(&["consume", "lines", "--format", "%o:%S "], b""),
        "0:14 1:0 2:9 3:4 "
    );
    for (from, count, offsets) in [
        ("-2", "9", "2 3 "),
        ("1", "2", "1 2 "),
        ("latest", "9", ""),
        ("1970-01-02", "1", "0 "),
        ("1h", "9", "0 1 2 3 "),
    ] {
        let args = ["consume", "lines", "--from", from, "--count", count, "--format", "%o "];
        assert_eq!(node.text(&args, b""), offsets, "{from}");
    }
}

#[test]
fn json_is_the_same_record_again_in_every_codec() {
    let node = Broker::start();
    let records = concat!(
        r#"{"timestamp_ms":5,"key":null,"value":"","headers":[]}"#,
        "\n",
        r#"{"timestamp_ms":6,"key":"","value":null,"headers":[["a","1"],["a",null]]}"#,
        "\n",
        r#"{"timestamp_ms":7,"key":{"base64":"/w=="},"value":"ä","headers":[[{"base64":"/g=="},""]]}"#,
        "\n",
    );
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let written = node.text(
            &[
                "produce",
                codec,
                "--input",
                "json",
                "--compression",
                codec,
                "--partition",
                "0",
                "--json",
            ],
            records.as_bytes(),
        );
        assert!(
            written.contains(r#""records":3"#) && written.contains(r#""last_offset":2"#),
            "{written}"
        );
        let read = node.text(&["consume", codec, "--json"], b"");
        let stripped: Vec<String> = read
            .lines()
            .enumerate()
            .map(|(nth, line)| line.replace(&format!(r#""topic":"{codec}","partition":0,"offset":{nth},"#), "") + "\n")
            .collect();
        assert_eq!(stripped.concat(), records);
        // And once more through the pipe.
        let copy = format!("{codec}-copy");
        node.ok(&["produce", &copy, "--input", "json"], read.as_bytes());
        let copied = node.text(&["consume", &copy, "--json"], b"");
        assert_eq!(copied.replace(&copy, codec), read);
    }
}

#[test]
fn keys_choose_partitions_and_headers_are_added() {
    let node = Broker::start();
    node.ok(&["topic", "create", "keyed", "--partitions", "7"], b"");
    let args = [
        "produce",
        "keyed",
        "--key-separator",
        "\\t",
        "--null",
        "NIL",
        "--header",
        "source=test",
    ];
    node.ok(&args, b"21\ta\n21\tNIL\nfoobar\tb\n");
    let read = node.text(
        &["consume", "keyed", "--format", "%p %k %s %S %h\n", "--null", "-"],
        b"",
    );
    let mut lines: Vec<_> = read.lines().collect();
    lines.sort_unstable();
    // murmur2("21") & 0x7fffffff = 1173551340, murmur2("foobar") & 0x7fffffff = 1357151166
    assert_eq!(
        lines,
        [
            "0 foobar b 1 source=test",
            "3 21 - -1 source=test",
            "3 21 a 1 source=test"
        ]
    );
}

#[test]
fn what_is_wrong_is_said_with_its_line_and_the_rest_is_written() {
    let node = Broker::start();
    let (said, code) = node.refused(&["produce", "t", "--key-separator", ","], b"a,1\nb,2\nc\nd,4\n");
    assert!(said.contains("stdin: line 3 has no key") && code == 1, "{said}");
    assert_eq!(node.text(&["consume", "t"], b""), "1\n2\n");

    let long = [&b"short\n"[..], &[b'x'; 2_000_000], b"\nafter\n"].concat();
    let (said, _) = node.refused(&["produce", "long"], &long);
    assert!(
        said.contains("stdin, line 2: MESSAGE_TOO_LARGE") && said.contains("max.message.bytes"),
        "{said}"
    );
    assert!(said.contains("not written"), "{said}");
    assert_eq!(node.text(&["consume", "long", "--count", "1"], b""), "short\n");

    assert_eq!(node.text(&["consume", "t", "--partition", "0,0"], b""), "1\n2\n");
    let (said, code) = node.refused(&["consume", "t", "--from", "9"], b"");
    assert!(said.contains("it begins at 0, and 2 comes next") && code == 2, "{said}");
    let (said, _) = node.refused(&["consume", "nothere"], b"");
    assert!(said.contains("there is no topic nothere"), "{said}");
    let (said, _) = node.refused(&["produce", "t", "--partition", "5"], b"x\n");
    assert!(said.contains("there is no partition 5; topic t has 1"), "{said}");
    let (said, _) = node.refused(&["produce", "t", "/nonexistent"], b"");
    assert!(said.contains("cannot read /nonexistent"), "{said}");
}

#[test]
fn a_group_goes_on_where_it_stopped() {
    let node = Broker::start();
    let numbers: String = (0..100).map(|nth| format!("{nth}\n")).collect();
    node.ok(&["produce", "t"], numbers.as_bytes());
    let first = node.text(&["consume", "t", "--group", "g", "--count", "30"], b"");
    let second = node.text(&["consume", "t", "--group", "g", "--count", "70"], b"");
    assert_eq!(first + &second, numbers);
    let other = node.text(&["consume", "t", "--group", "h", "--count", "1", "--from", "-1"], b"");
    assert_eq!(other, "99\n");
}

#[test]
fn a_group_whose_offset_is_not_there_begins_where_it_is_told() {
    let node = Broker::start();
    node.ok(&["produce", "t"], b"0\n1\n2\n");
    let client = Client::new(Settings::new(vec![HostPort::parse(&node.0.field("kafka")).unwrap()]));
    let nowhere = [(("t".to_owned(), 0), 9)].into();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(client.commit("g", &nowhere)).unwrap();
    let output = node.run(&["consume", "t", "--group", "g", "--count", "2", "--from", "1"], b"");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.stdout, b"1\n2\n", "{said}");
    assert!(
        said.contains(
            "warning: group g has committed offset 9 of partition 0 of topic t, which begins at 0, and 3 comes next"
        ),
        "{said}"
    );
}

#[test]
fn a_group_reads_partitions_that_are_added() {
    let node = Broker::start();
    node.ok(&["produce", "t"], b"old\n");
    let mut reader = node.command(&["consume", "t", "--group", "g", "--count", "2"]);
    let mut reader = reader.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(reader.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "old");
    node.ok(&["topic", "alter", "t", "--partitions", "2"], b"");
    node.ok(&["produce", "t", "--partition", "1"], b"new\n");
    // It looks every half minute.
    assert_eq!(lines.next().unwrap().unwrap(), "new");
    assert!(reader.wait().unwrap().success());
}

#[test]
fn many_records_in_many_partitions_all_arrive_once() {
    let node = Broker::start();
    node.ok(&["topic", "create", "many", "--partitions", "5"], b"");
    let numbers: String = (0..200_000).map(|nth| format!("{nth}\n")).collect();
    node.ok(&["produce", "many", "--batch-bytes", "20000"], numbers.as_bytes());
    let read = node.text(&["consume", "many"], b"");
    let mut read: Vec<u32> = read.lines().map(|line| line.parse().unwrap()).collect();
    read.sort_unstable();
    assert!(read.iter().copied().eq(0..200_000), "{} records", read.len());
}

#[test]
fn what_nobody_acknowledges_is_sent_before_the_end() {
    let node = Broker::start();
    node.ok(&["topic", "create", "fast", "--partitions", "3"], b"");
    let numbers: String = (0..300_000).map(|nth| format!("{nth} {}\n", "x".repeat(40))).collect();
    node.ok(&["produce", "fast", "--acks", "0"], numbers.as_bytes());
    let read = || -> Vec<u32> {
        let read = node.text(&["consume", "fast"], b"");
        let numbers = read.lines().map(|line| line.split(' ').next().unwrap());
        numbers.map(|number| number.parse().unwrap()).collect()
    };
    // Storing them may take longer than sending them.
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut read = std::iter::repeat_with(read)
        .find(|read| read.len() >= 300_000 || Instant::now() > deadline)
        .unwrap();
    read.sort_unstable();
    assert!(read.iter().copied().eq(0..300_000));
}

/// A writer whose input stays open; what it says after a signal, and its exit code.
fn ended(mut writer: Child, signal: &str) -> (String, Option<i32>) {
    let stdin = writer.stdin.take();
    let pid = writer.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-s", signal, &pid])
            .status()
            .unwrap()
            .success()
    );
    let output = writer.wait_with_output().unwrap();
    drop(stdin);
    (String::from_utf8(output.stderr).unwrap(), output.status.code())
}

#[test]
fn a_signal_ends_reading_and_the_last_line_that_was_written_is_told() {
    let node = Broker::start();
    let writer = |topic: &str| {
        let mut command = node.command(&["produce", topic]);
        command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    for (topic, signal, code) in [("int", "INT", 130), ("term", "TERM", 143)] {
        node.ok(&["topic", "create", topic], b"");
        let mut child = writer(topic);
        child.stdin.as_mut().unwrap().write_all(b"1\n2\n3\n").unwrap();
        let read = node.text(&["consume", topic, "--follow", "--count", "3"], b"");
        assert_eq!(read, "1\n2\n3\n");
        let (said, ended_with) = ended(child, signal);
        assert!(
            said.contains(&format!("error: ended by SIG{signal} after stdin, line 3;")),
            "{said}"
        );
        assert_eq!(ended_with, Some(code), "{said}");
    }
    // In the middle of much: what is said is what is there.
    node.ok(&["topic", "create", "much"], b"");
    let mut child = writer("much");
    let mut stdin = child.stdin.take().unwrap();
    let feeding = std::thread::spawn(move || {
        // Until the writer ends.
        for nth in 1.. {
            if writeln!(stdin, "{nth}").is_err() {
                return;
            }
        }
    });
    node.text(&["consume", "much", "--follow", "--count", "1"], b"");
    let (said, code) = ended(child, "INT");
    feeding.join().unwrap();
    let (_, line) = said
        .split_once("after stdin, line ")
        .unwrap_or_else(|| panic!("{said}"));
    let last: usize = line.split(';').next().unwrap().parse().unwrap();
    let read = node.text(&["consume", "much"], b"");
    assert!(read.lines().eq((1..=last).map(|nth| nth.to_string())), "{said}");
    assert_eq!(code, Some(130), "{said}");
}

#[test]
fn benches_say_what_they_did_and_leave_nothing() {
    let node = Broker::start();
    let pid = node.0.id().to_string();
    let written = node.text(
        &[
            "bench",
            "produce",
            "--topic",
            "kept",
            "--count",
            "5000",
            "--idempotent",
            "--pid",
            &pid,
            "--json",
        ],
        b"",
    );
    let written: serde_json::Value = serde_json::from_str(&written).unwrap();
    assert!(written["records"].as_u64().unwrap() >= 5_000, "{written}");
    assert!(written["broker_cpu"]["seconds"].as_f64().is_some(), "{written}");
    let read = node.text(&["bench", "consume", "--topic", "kept", "--check", "--json"], b"");
    let read: serde_json::Value = serde_json::from_str(&read).unwrap();
    assert_eq!(read["records"], written["records"]);
    let args = ["bench", "latency", "--rate", "200", "--duration", "1s", "--json"];
    let lone: serde_json::Value = serde_json::from_str(&node.text(&args, b"")).unwrap();
    let counts: Vec<_> = lone["latency"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["count"].as_u64().unwrap())
        .collect();
    assert!(counts[0] > 100 && counts[0] == counts[1], "{lone}");
    let topics = node.text(&["topic", "list", "--json"], b"");
    assert_eq!(topics.lines().count(), 1, "{topics}");
}
