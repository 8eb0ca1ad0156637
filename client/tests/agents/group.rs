//! Groups: members share partitions, go on where the group has committed, and lose nothing when they are cut.

use std::collections::BTreeSet;
use std::time::Duration;

use esker_client::{Client, GroupEvent, GroupStart, GroupSubscription, Record, Records};

use crate::broker::{Broker, World};
use crate::proxy::Proxy;
use crate::stored::{client_of, quick};

async fn join(client: &Client) -> GroupSubscription {
    let group = client.consumer().group("g", ["t"]);
    group.session_timeout(Duration::from_secs(6)).join().await.unwrap()
}

/// The next assignment; revocations and records before it are passed over.
async fn assigned(member: &mut GroupSubscription) -> Vec<i32> {
    loop {
        if let GroupEvent::Assigned(places) = member.next().await.unwrap().unwrap() {
            return places.iter().map(|place| place.partition).collect();
        }
    }
}

async fn records(member: &mut GroupSubscription) -> Records {
    match member.next().await.unwrap().unwrap() {
        GroupEvent::Records(records) => records,
        other => panic!("{other:?}"),
    }
}

fn values(records: &Records) -> Vec<String> {
    let values = records.records.iter().map(|record| record.value.clone().unwrap());
    values.map(|value| String::from_utf8(value.to_vec()).unwrap()).collect()
}

async fn produce_to_each(client: &Client, partitions: i32, value: &str) {
    let records = (0..partitions).map(|partition| Record::new(value.to_owned()).partition(partition));
    client.produce("t", records).await.unwrap();
}

#[tokio::test]
async fn a_group_goes_on_where_it_has_committed() {
    let broker = Broker::start().await;
    broker.connect().await.create("t", 1, &[]).await;
    let client = client_of(&broker).await;
    client.produce("t", ["a", "b"].map(Record::new)).await.unwrap();
    let mut member = join(&client).await;
    let early = member.committer().commit([(("t", 0).into(), 1)]).await.unwrap_err();
    assert!(early.to_string().contains("nothing is assigned"), "{early}");
    assert_eq!(assigned(&mut member).await, [0]);
    let read = records(&mut member).await;
    assert_eq!(values(&read), ["a", "b"]);
    member.committer().commit([(read.place.clone(), 1)]).await.unwrap();
    member.close().await.unwrap();

    let mut member = join(&client).await;
    assigned(&mut member).await;
    let read = records(&mut member).await;
    assert_eq!(values(&read), ["b"]);
    member.commit(&read).await.unwrap();
    drop(member);
    let offsets = client.admin().group_offsets("g").await.unwrap();
    assert_eq!((offsets.len(), offsets[0].offset), (1, 2));

    let late = client.consumer().group("other", ["t"]).start(GroupStart::Latest);
    let mut late = late.join().await.unwrap();
    assigned(&mut late).await;
    client.produce("t", [Record::new("c")]).await.unwrap();
    assert_eq!(values(&records(&mut late).await), ["c"]);
    let failing = client.consumer().group("third", ["t"]).start(GroupStart::Fail);
    let refused = failing.join().await.unwrap().next().await.unwrap().unwrap_err();
    assert!(!refused.is_retriable(), "{refused}");
}

#[tokio::test]
async fn members_share_the_partitions_and_are_told_when_others_come_and_go() {
    let world = World::new();
    let agents = [world.start(&[]).await, world.start(&[]).await];
    agents[0].connect().await.create("t", 4, &[]).await;
    let (one, other) = (client_of(&agents[0]).await, client_of(&agents[1]).await);
    let mut first = join(&one).await;
    assert_eq!(assigned(&mut first).await, [0, 1, 2, 3]);
    let mut second = join(&other).await;
    let GroupEvent::Revoked(revoked) = first.next().await.unwrap().unwrap() else {
        panic!("nothing was revoked");
    };
    assert_eq!(revoked.len(), 4);
    let (of_first, of_second) = tokio::join!(assigned(&mut first), assigned(&mut second));
    assert_eq!((of_first.len(), of_second.len()), (2, 2));
    let all: BTreeSet<i32> = of_first.iter().chain(&of_second).copied().collect();
    assert_eq!(all.len(), 4);
    produce_to_each(&one, 4, "a").await;
    for (member, partitions) in [(&mut first, of_first), (&mut second, of_second)] {
        for _ in 0..2 {
            let read = records(member).await;
            assert!(partitions.contains(&read.place.partition));
            member.commit(&read).await.unwrap();
        }
    }
    second.close().await.unwrap();
    assert_eq!(assigned(&mut first).await, [0, 1, 2, 3]);
    // All was committed, by whoever it was.
    produce_to_each(&one, 4, "b").await;
    for _ in 0..4 {
        assert_eq!(values(&records(&mut first).await), ["b"]);
    }
}

#[tokio::test]
async fn what_was_handed_out_is_committed_by_itself_when_more_is_asked_for() {
    let broker = Broker::start().await;
    broker.connect().await.create("t", 1, &[]).await;
    let client = client_of(&broker).await;
    let committing = client
        .consumer()
        .group("g", ["t"])
        .auto_commit(Duration::from_millis(10));
    let mut member = committing.clone().join().await.unwrap();
    assigned(&mut member).await;
    client.produce("t", [Record::new("a")]).await.unwrap();
    assert_eq!(values(&records(&mut member).await), ["a"]);
    assert!(
        client.admin().group_offsets("g").await.unwrap().is_empty(),
        "it is not done yet"
    );
    // It is when the next event is asked for, though there is none.
    let committed = async {
        while client.admin().group_offsets("g").await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        client.produce("t", [Record::new("b")]).await.unwrap();
    };
    let (read, ()) = tokio::join!(records(&mut member), committed);
    assert_eq!(values(&read), ["b"]);
    member.close().await.unwrap();
    let offsets = client.admin().group_offsets("g").await.unwrap();
    assert_eq!(offsets[0].offset, 2, "closing commits");
}

#[tokio::test]
async fn a_member_that_is_cut_joins_again_and_goes_on_from_what_is_committed() {
    let world = World::new();
    let agents = [world.start(&[]).await, world.start(&[]).await];
    agents[0].connect().await.create("t", 1, &[]).await;
    let proxy = Proxy::start(agents[0].grpc).await;
    let client = quick().address(&proxy.address).connect().await.unwrap();
    let direct = client_of(&agents[1]).await;
    let mut member = join(&client).await;
    assigned(&mut member).await;
    for round in 0..3 {
        direct
            .produce(
                "t",
                [Record::new(format!("{round}a")), Record::new(format!("{round}b"))],
            )
            .await
            .unwrap();
        let read = records(&mut member).await;
        assert_eq!(values(&read)[0], format!("{round}a"));
        member
            .committer()
            .commit([(read.place.clone(), read.records[0].offset + 1)])
            .await
            .unwrap();
        proxy.lead_to(agents[round % 2].grpc);
        proxy.cut();
        let GroupEvent::Revoked(revoked) = member.next().await.unwrap().unwrap() else {
            panic!("the cut was not told");
        };
        assert_eq!(revoked.len(), 1);
        assert_eq!(assigned(&mut member).await, [0]);
        let read = records(&mut member).await;
        assert_eq!(
            values(&read),
            [format!("{round}b")],
            "what was not committed comes again"
        );
        member.commit(&read).await.unwrap();
    }
}
