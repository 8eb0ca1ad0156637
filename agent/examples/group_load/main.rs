//! Load of consumer groups over the Kafka protocol: many groups whose members join, send heartbeats, commit offsets, rebalance
//! and leave. `bench/run.py groups` runs it against Esker and against Kafka.
//!
//! `group_load HOST:PORT [--groups 1000] [--members 10] [--partitions 2] [--seconds 20] [--watch NAME=PID]…`: one JSON line per phase, with
//! the CPU seconds and resident memory of the processes that are watched.
//!
//! Owns: the order of the phases and what each says.
//! Does not own: what a member does (`member`), bytes on a connection (`link`), figures of processes (`report`).
//!
//! Invariants: it ends by itself: every phase is bounded in time or count, and an answer that does not come, or that says what it
//! should not, ends the run. One thread, one connection per member, one request of each under way.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    reason = "a tool for developers, which prints"
)]

mod link;
mod member;
mod report;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use esker_kafka::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use esker_kafka::messages::find_coordinator_request::FindCoordinatorRequest;
use esker_kafka::messages::find_coordinator_response::Coordinator;
use esker_kafka::{ErrorCode, Str};
use futures::stream::{self, StreamExt as _};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use self::link::Link;
use self::member::{Group, Member};
use self::report::{Latencies, Phase, Watched};

/// Connections that are being made at once: Kafka lets 50 wait.
const CONNECTING_MAX: usize = 32;
/// How often members of the steady phase send heartbeats; what Kafka's clients do.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// How often members of the paced phase commit: `auto.commit.interval.ms` of Kafka's clients.
const COMMIT: Duration = Duration::from_secs(5);
/// How long the steady and the paced phase take.
const PACED_FOR: Duration = Duration::from_secs(10);
/// How often coordinators are asked for, and for how many answers nothing must change: agents that have just started share the
/// groups out among them.
const FIND_TRIES: usize = 300;
const FIND_STEADY: usize = 50;
const FIND_PAUSE: Duration = Duration::from_millis(100);
/// The topic that all groups read.
const TOPIC: &str = "group-load";

struct Arguments {
    bootstrap: String,
    groups: usize,
    members: usize,
    /// Of each member.
    partitions: usize,
    seconds: u64,
    watched: Vec<Watched>,
}

fn arguments() -> Arguments {
    let mut words = std::env::args().skip(1);
    let mut found = Arguments {
        bootstrap: words.next().expect("first argument: HOST:PORT"),
        groups: 1_000,
        members: 10,
        partitions: 2,
        seconds: 20,
        watched: Vec::new(),
    };
    while let Some(flag) = words.next() {
        let value = words.next().expect("every flag has a value");
        match flag.as_str() {
            "--groups" => found.groups = value.parse().unwrap(),
            "--members" => found.members = value.parse().unwrap(),
            "--partitions" => found.partitions = value.parse().unwrap(),
            "--seconds" => found.seconds = value.parse().unwrap(),
            "--watch" => found.watched.push(Watched::parse(&value)),
            _ => panic!("no such flag: {flag}"),
        }
    }
    found
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    std::panic::set_hook(Box::new(|cause| {
        // One is enough: ten thousand members would all say the same.
        eprintln!("{cause}");
        std::process::exit(1);
    }));
    let given = arguments();
    let watched = &given.watched;
    create_topic(&given).await;
    let groups: Vec<Arc<Group>> = (0..given.groups).map(|number| Arc::new(Group::new(number))).collect();
    let coordinators = coordinators(&given.bootstrap, &groups).await;
    let phase = Phase::begin("connect", watched);
    let mut members = connect(&given, &groups, &coordinators).await;
    phase.end(&[("connections", members.len().to_string())]);

    let phase = Phase::begin("join", watched);
    groups.iter().for_each(|group| group.begin(given.members));
    members = each(members, Member::join).await;
    phase.end(&stability(&groups));

    members = paced("heartbeats", watched, members, HEARTBEAT, async |member| {
        assert_eq!(member.heartbeat().await, ErrorCode::None);
        Some(())
    })
    .await;
    members = paced(
        "commits, one a member every 5 s",
        watched,
        members,
        COMMIT,
        async |member| member.commit().await,
    )
    .await;
    members = flat_out(&given, members).await;

    let phase = Phase::begin("rebalance", watched);
    groups.iter().for_each(|group| group.begin(given.members - 1));
    members = each(members, Member::go_on_without_the_last).await;
    phase.end(&stability(&groups));

    let phase = Phase::begin("leave", watched);
    let members = each(members, Member::leave).await;
    phase.end(&[("members", members.len().to_string())]);
}

async fn create_topic(given: &Arguments) {
    let topic = CreatableTopic {
        name: Str::from(TOPIC),
        num_partitions: i32::try_from(given.members * given.partitions).unwrap(),
        replication_factor: -1,
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest {
        topics: vec![topic],
        timeout_ms: 60_000,
        ..CreateTopicsRequest::default()
    };
    let answer = Link::open(&given.bootstrap).await.call(7, &request).await;
    let code = ErrorCode::try_from(answer.topics[0].error_code).unwrap();
    assert!(
        matches!(code, ErrorCode::None | ErrorCode::TopicAlreadyExists),
        "the topic was not made: {code:?}"
    );
}

/// Every member on a connection of its own to the coordinator of its group.
async fn connect(given: &Arguments, groups: &[Arc<Group>], coordinators: &HashMap<Str, String>) -> Vec<Member> {
    let places = groups
        .iter()
        .flat_map(|group| (0..given.members).map(move |number| (group, number)));
    let opening = places.map(|(group, number)| {
        let address = &coordinators[&group.name];
        async move { Member::new(Arc::clone(group), number, given.partitions, Link::open(address).await) }
    });
    stream::iter(opening).buffer_unordered(CONNECTING_MAX).collect().await
}

async fn coordinators(bootstrap: &str, groups: &[Arc<Group>]) -> HashMap<Str, String> {
    let mut link = Link::open(bootstrap).await;
    let request = FindCoordinatorRequest {
        coordinator_keys: groups.iter().map(|group| group.name.clone()).collect(),
        ..FindCoordinatorRequest::default()
    };
    let (mut known, mut steady) = (Vec::new(), 0);
    for _ in 0..FIND_TRIES {
        let found = link.call(4, &request).await.coordinators;
        let complete = found.iter().all(|found| found.error_code == 0);
        steady = if complete && found == known { steady + 1 } else { 0 };
        if steady == FIND_STEADY {
            let address = |found: &Coordinator| format!("{}:{}", found.host.as_str(), found.port);
            return found.iter().map(|found| (found.key.clone(), address(found))).collect();
        }
        known = found;
        sleep(FIND_PAUSE).await;
    }
    panic!("not every group has a coordinator that stays");
}

/// Every member does the same at once.
async fn each<F: Future<Output = Member> + Send + 'static>(
    members: Vec<Member>,
    act: impl Fn(Member) -> F,
) -> Vec<Member> {
    let mut tasks: JoinSet<Member> = JoinSet::new();
    for member in members {
        tasks.spawn(act(member));
    }
    let mut back = Vec::with_capacity(tasks.len());
    while let Some(member) = tasks.join_next().await {
        back.push(member.expect("a member does what it should"));
    }
    back
}

/// How long it took until the groups were stable.
fn stability(groups: &[Arc<Group>]) -> Vec<(&'static str, String)> {
    let mut took = Latencies::default();
    for group in groups {
        took.push(group.took());
    }
    let mut figures = vec![("groups", groups.len().to_string())];
    figures.extend(took.seconds());
    figures
}

/// Every member acts once per interval, spread evenly; what counts is how long after its time it has its answer.
async fn paced(
    name: &str,
    watched: &[Watched],
    members: Vec<Member>,
    interval: Duration,
    act: impl AsyncFn(&mut Member) -> Option<()> + Copy + 'static,
) -> Vec<Member> {
    let (began, count) = (Instant::now(), u32::try_from(members.len()).unwrap());
    let phase = Phase::begin(name, watched);
    let local = tokio::task::LocalSet::new();
    let tasks: Vec<_> = (0..count)
        .zip(members)
        .map(|(number, mut member)| {
            local.spawn_local(async move {
                let (mut due, mut took, mut refused) = (began + interval * number / count, Latencies::default(), 0);
                while due < began + PACED_FOR {
                    sleep_until(due).await;
                    match act(&mut member).await {
                        Some(()) => took.push(due.elapsed()),
                        None => refused += 1,
                    }
                    due += interval;
                }
                (member, took, refused)
            })
        })
        .collect();
    let done = local.run_until(futures::future::join_all(tasks)).await;
    finish(phase, done.into_iter().map(Result::unwrap).collect())
}

/// Every member commits as soon as its last commit was answered.
async fn flat_out(given: &Arguments, members: Vec<Member>) -> Vec<Member> {
    let until = Instant::now() + Duration::from_secs(given.seconds);
    let phase = Phase::begin("commits, one of every member under way", &given.watched);
    let mut tasks = JoinSet::new();
    for mut member in members {
        tasks.spawn(async move {
            let (mut took, mut refused) = (Latencies::default(), 0);
            while Instant::now() < until {
                let began = Instant::now();
                match member.commit().await {
                    Some(()) => took.push(began.elapsed()),
                    None => refused += 1,
                }
            }
            (member, took, refused)
        });
    }
    finish(phase, tasks.join_all().await)
}

fn finish(phase: Phase<'_>, done: Vec<(Member, Latencies, usize)>) -> Vec<Member> {
    let (mut members, mut took, mut refused) = (Vec::with_capacity(done.len()), Latencies::default(), 0);
    for (member, own, more) in done {
        members.push(member);
        took.append(own);
        refused += more;
    }
    let mut figures = phase.rates(took.len());
    figures.push(("refused", refused.to_string()));
    figures.extend(took.milliseconds());
    phase.end(&figures);
    members
}
