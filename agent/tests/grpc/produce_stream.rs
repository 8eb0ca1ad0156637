//! Streams of batches: in order, once, also when the connection or the agent is lost in the middle.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use esker_proto::v1::admin_client::AdminClient;
use esker_proto::v1::produce_stream_request::{Batch, Open, Step};
use esker_proto::v1::produce_stream_response::{Ack, Step as Answer};
use esker_proto::v1::producer_client::ProducerClient;
use esker_proto::v1::{
    AlterConfigsRequest, ConfigAlteration, ConfigOperation, ConfigOperationKind, ConfigResource, ConfigResourceType,
    ProduceStreamRequest, ProduceStreamResponse, Record, Session,
};
use tokio::sync::mpsc;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::batches::{fetched, records_of};
use crate::broker::{Broker, World, detail, keyed, record, to};
use crate::client::Client;
use crate::requests::Topic;

/// An open stream.
pub(crate) struct Opened {
    send: mpsc::UnboundedSender<ProduceStreamRequest>,
    answers: Streaming<ProduceStreamResponse>,
}

fn step(step: Step) -> ProduceStreamRequest {
    ProduceStreamRequest { step: Some(step) }
}

fn open(session: Option<Session>, next_sequences: &BTreeMap<i32, i32>) -> Step {
    Step::Open(Open {
        topic: "t".to_owned(),
        session,
        next_sequences: next_sequences.iter().map(|(p, s)| (*p, *s)).collect(),
    })
}

impl Opened {
    async fn start(broker: &Broker, first: Step) -> Self {
        Self::over(broker.producer().await, first).await.unwrap()
    }

    pub(crate) async fn over(mut producer: ProducerClient<Channel>, first: Step) -> Result<Self, Status> {
        let (send, mut receive) = mpsc::unbounded_channel();
        send.send(step(first)).unwrap();
        let requests = futures::stream::poll_fn(move |cx| receive.poll_recv(cx));
        let answers = producer.produce_stream(requests).await?.into_inner();
        Ok(Self { send, answers })
    }

    fn batch(&self, number: u64, records: Vec<Record>) {
        // The agent may have ended the stream by now.
        let _ = self.send.send(step(Step::Batch(Batch { number, records })));
    }

    async fn answer(&mut self) -> Result<Answer, Status> {
        let answer = self.answers.message().await?;
        // A connection that is cut may end so as well.
        let answer = answer.ok_or_else(|| Status::unavailable("the stream has ended"))?;
        Ok(answer.step.unwrap())
    }

    async fn session(&mut self) -> Result<Session, Status> {
        match self.answer().await? {
            Answer::Opened(opened) => Ok(opened.session.unwrap()),
            other => panic!("{other:?}"),
        }
    }

    async fn ack(&mut self) -> Result<Ack, Status> {
        match self.answer().await? {
            Answer::Ack(ack) => Ok(ack),
            other => panic!("{other:?}"),
        }
    }
}

/// A client that goes on after its streams break.
pub(crate) struct Resuming {
    session: Option<Session>,
    next_sequences: BTreeMap<i32, i32>,
    pub(crate) unacked: VecDeque<(u64, Vec<Record>)>,
    next_number: u64,
    /// Partition and offset of each acknowledged value.
    pub(crate) acked: BTreeMap<String, (i32, i64)>,
}

impl Resuming {
    pub(crate) fn new() -> Self {
        Self {
            session: None,
            next_sequences: BTreeMap::new(),
            unacked: VecDeque::new(),
            next_number: 0,
            acked: BTreeMap::new(),
        }
    }

    async fn open(&mut self, broker: &Broker) -> Opened {
        let mut stream = Opened::start(broker, self.first()).await;
        self.resume(&mut stream).await.unwrap();
        stream
    }

    /// What a stream begins with.
    pub(crate) fn first(&self) -> Step {
        open(self.session, &self.next_sequences)
    }

    /// Sends again what was not acknowledged.
    pub(crate) async fn resume(&mut self, stream: &mut Opened) -> Result<(), Status> {
        let session = stream.session().await?;
        assert!(self.session.is_none_or(|before| before == session));
        self.session = Some(session);
        for (number, records) in &self.unacked {
            stream.batch(*number, records.clone());
        }
        Ok(())
    }

    pub(crate) fn send(&mut self, stream: &Opened, records: Vec<Record>) {
        stream.batch(self.next_number, records.clone());
        self.unacked.push_back((self.next_number, records));
        self.next_number += 1;
    }

    async fn take_ack(&mut self, stream: &mut Opened) {
        self.try_ack(stream).await.unwrap();
    }

    pub(crate) async fn try_ack(&mut self, stream: &mut Opened) -> Result<(), Status> {
        let ack = stream.ack().await?;
        let (number, records) = self.unacked.pop_front().unwrap();
        assert_eq!(ack.number, number, "acks come in order");
        self.next_sequences.extend(ack.next_sequences);
        let places = ack.partitions.into_iter().zip(ack.offsets);
        for (record, place) in records.iter().zip(places) {
            let value = String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap();
            self.acked.insert(value, place);
        }
        Ok(())
    }
}

/// Every record of a partition, in order.
pub(crate) async fn stored(kafka: &mut Client, topic: &Topic, partition: i32) -> Vec<(i64, String)> {
    let (mut all, mut next) = (Vec::new(), 0);
    let end = kafka.latest(topic, partition).await;
    while next < end {
        for batch in fetched(&kafka.fetch(topic, partition, next).await) {
            next = batch.header().last_offset() + 1;
            all.extend(records_of(&batch).into_iter().map(|record| {
                let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                (record.offset, value)
            }));
        }
    }
    all
}

#[tokio::test]
async fn batches_are_acknowledged_in_order_where_they_are() {
    let broker = Broker::start().await;
    let mut kafka = broker.connect().await;
    let topic = kafka.create("t", 3, &[]).await;
    let mut client = Resuming::new();
    let mut stream = client.open(&broker).await;
    for nth in 0..40 {
        let records = vec![
            record(&format!("{nth} free")),
            keyed("21", &format!("{nth} keyed")),
            to(2, &format!("{nth} placed")),
        ];
        client.send(&stream, records);
        if client.unacked.len() == 5 {
            client.take_ack(&mut stream).await;
        }
    }
    while !client.unacked.is_empty() {
        client.take_ack(&mut stream).await;
    }
    for nth in 0..40 {
        assert_eq!(client.acked[&format!("{nth} free")].0, nth % 3);
        assert_eq!(client.acked[&format!("{nth} keyed")].0, 1_173_551_340 % 3);
        assert_eq!(client.acked[&format!("{nth} placed")].0, 2);
    }
    let mut found = 0;
    for partition in 0..3 {
        let records = stored(&mut kafka, &topic, partition).await;
        let order: Vec<usize> = records
            .iter()
            .map(|(_, value)| value.split(' ').next().unwrap().parse().unwrap())
            .collect();
        assert!(order.is_sorted(), "{order:?}");
        for (offset, value) in records {
            assert_eq!(client.acked[&value], (partition, offset));
            found += 1;
        }
    }
    assert_eq!(found, 120);
    drop(stream.send);
    assert!(
        stream.answers.message().await.unwrap().is_none(),
        "the agent ends what the client has ended"
    );
}

/// Sends 60 batches; cuts the stream again and again, each time at another moment and to the other agent.
#[tokio::test]
async fn streams_that_are_cut_lose_nothing_and_double_nothing() {
    let world = World::new();
    let agents = [world.start(&[]).await, world.start(&[]).await];
    let mut kafka = agents[0].connect().await;
    let topic = kafka.create("t", 2, &[]).await;
    let mut client = Resuming::new();
    let (mut at, mut sent) = (0, 0);
    while sent < 60 || !client.unacked.is_empty() {
        let mut stream = client.open(&agents[at % 2]).await;
        if at % 5 == 3 {
            // What is under way fails, and is repeated by the agent.
            world.end_all_sessions();
        }
        while sent < 60 && client.unacked.len() < 5 {
            client.send(
                &stream,
                vec![
                    keyed(&sent.to_string(), &format!("k{sent}")),
                    record(&format!("f{sent}")),
                ],
            );
            sent += 1;
        }
        // As many acks as this are read; more batches than that are stored, and more acks sent.
        let acks = (at * 5 % 6).min(client.unacked.len());
        for _ in 0..acks {
            client.take_ack(&mut stream).await;
        }
        at += 1;
    }
    assert!(at > 10, "cut only {at} times");
    let mut found = BTreeMap::new();
    for partition in 0..2 {
        let records = stored(&mut kafka, &topic, partition).await;
        let numbers: Vec<u64> = records.iter().map(|(_, value)| value[1..].parse().unwrap()).collect();
        assert!(numbers.is_sorted(), "partition {partition}: {numbers:?}");
        for (offset, value) in records {
            assert!(
                found.insert(value.clone(), (partition, offset)).is_none(),
                "{value} is there twice"
            );
        }
    }
    assert_eq!(found.len(), 120);
    assert_eq!(found, client.acked, "acks say where each record is");
}

#[tokio::test]
async fn what_was_stored_but_not_acknowledged_is_acknowledged_by_another_agent() {
    let world = World::new();
    let first = world.start(&[]).await;
    let second = world.start(&[]).await;
    let mut kafka = second.connect().await;
    let topic = kafka.create("t", 1, &[]).await;
    let mut client = Resuming::new();
    let mut stream = client.open(&first).await;
    client.send(&stream, vec![record("0")]);
    client.take_ack(&mut stream).await;
    for nth in 1..5 {
        client.send(&stream, vec![record(&nth.to_string())]);
    }
    while kafka.latest(&topic, 0).await < 5 {
        tokio::task::yield_now().await;
    }
    // The agent is gone, and with it the acks.
    drop((stream, first));
    let mut stream = client.open(&second).await;
    client.send(&stream, vec![record("5")]);
    while !client.unacked.is_empty() {
        client.take_ack(&mut stream).await;
    }
    let expected: Vec<(i64, String)> = (0..6).map(|nth| (nth, nth.to_string())).collect();
    assert_eq!(stored(&mut kafka, &topic, 0).await, expected);
    let acked: Vec<(i64, String)> = client
        .acked
        .iter()
        .map(|(value, place)| (place.1, value.clone()))
        .collect();
    assert_eq!(acked, expected);
}

#[tokio::test]
async fn a_batch_that_is_too_large_ends_the_stream_and_goes_on_when_it_may_be_as_large() {
    let broker = Broker::start().await;
    let mut kafka = broker.connect().await;
    let topic = kafka.create("t", 1, &[("max.message.bytes", "1000")]).await;
    let mut client = Resuming::new();
    let mut stream = client.open(&broker).await;
    let large = "x".repeat(2_000);
    client.send(&stream, vec![record("0")]);
    client.send(&stream, vec![record(&large)]);
    client.send(&stream, vec![record("2")]);
    client.take_ack(&mut stream).await;
    let refused = stream.ack().await.unwrap_err();
    assert_eq!(
        (refused.code(), detail(&refused).kafka_name.as_str()),
        (Code::InvalidArgument, "MESSAGE_TOO_LARGE")
    );
    assert!(refused.message().contains("in a new session"), "{refused}");
    // Batch 1 is what it is for as long as the session lives.
    client.unacked[0].1 = vec![record("1")];
    let refused = client.open(&broker).await.ack().await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    client.unacked[0].1 = vec![record(&large)];
    set(&broker, "max.message.bytes", "5000").await;
    let mut stream = client.open(&broker).await;
    client.take_ack(&mut stream).await;
    client.take_ack(&mut stream).await;
    let expected = [(0, "0".to_owned()), (1, large), (2, "2".to_owned())];
    assert_eq!(stored(&mut kafka, &topic, 0).await, expected);
}

/// Sets a config of the topic.
async fn set(broker: &Broker, name: &str, value: &str) {
    let request = AlterConfigsRequest {
        alterations: vec![ConfigAlteration {
            resource: Some(ConfigResource {
                r#type: ConfigResourceType::Topic.into(),
                name: "t".to_owned(),
            }),
            operations: vec![ConfigOperation {
                name: name.to_owned(),
                kind: ConfigOperationKind::Set.into(),
                value: Some(value.to_owned()),
            }],
        }],
        validate_only: false,
    };
    let mut admin = AdminClient::new(broker.channel().await);
    let answer = admin.alter_configs(request).await.unwrap().into_inner();
    assert_eq!(answer.results[0].failure, None);
}

#[tokio::test]
async fn what_one_partition_refuses_and_another_stores_is_told_and_cannot_be_replaced() {
    let cases = [
        (
            ("max.message.bytes", "2000"),
            to(0, &"x".repeat(5_000)),
            "MESSAGE_TOO_LARGE",
        ),
        (("cleanup.policy", "compact"), to(0, "no key"), "INVALID_RECORD"),
    ];
    for (config, bad, error) in cases {
        let broker = Broker::start().await;
        let mut kafka = broker.connect().await;
        let topic = kafka.create("t", 2, &[config]).await;
        let good = |value: &str| Record {
            partition: Some(1),
            ..keyed("k", value)
        };
        let mut client = Resuming::new();
        // Also when it is resumed as it is.
        for _ in 0..2 {
            let mut stream = client.open(&broker).await;
            if client.unacked.is_empty() {
                client.send(&stream, vec![bad.clone(), good("a")]);
            }
            let Answer::Refused(refused) = stream.answer().await.unwrap() else {
                panic!("{error}: something was stored");
            };
            let [batch] = &refused.stored[..] else {
                panic!("{refused:?}");
            };
            assert_eq!(batch.number, 0);
            assert_eq!(
                (&batch.partitions[..], &batch.offsets[..]),
                (&[-1, 1][..], &[-1, 0][..])
            );
            let refused = stream.answer().await.unwrap_err();
            assert_eq!(detail(&refused).kafka_name, error);
        }
        client.unacked[0].1 = vec![good("corrected")];
        let refused = client.open(&broker).await.ack().await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        let mut fresh = Resuming::new();
        let mut stream = fresh.open(&broker).await;
        let corrected = Record {
            partition: Some(0),
            ..good("b")
        };
        fresh.send(&stream, vec![corrected]);
        fresh.take_ack(&mut stream).await;
        assert_eq!(stored(&mut kafka, &topic, 0).await, [(0, "b".to_owned())]);
        assert_eq!(stored(&mut kafka, &topic, 1).await, [(0, "a".to_owned())]);
    }
}

#[tokio::test]
async fn what_breaks_the_rules_of_a_stream_is_refused() {
    let broker = Broker::start().await;
    broker.connect().await.create("t", 2, &[]).await;
    let none = BTreeMap::new();
    let session = Opened::start(&broker, open(None, &none)).await.session().await.unwrap();
    let batch = |number, records| Step::Batch(Batch { number, records });
    let wrong_opens = [
        batch(0, vec![record("x")]),
        open(
            Some(Session {
                producer_id: -1,
                ..session
            }),
            &none,
        ),
        open(
            Some(Session {
                producer_epoch: 70_000,
                ..session
            }),
            &none,
        ),
        open(
            Some(Session {
                partitions: 0,
                ..session
            }),
            &none,
        ),
        open(
            Some(Session {
                partitions: i32::MAX,
                ..session
            }),
            &none,
        ),
        open(Some(session), &[(2, 0)].into()),
        open(Some(session), &[(0, -1)].into()),
        open(None, &[(0, 1)].into()),
        Step::Open(Open::default()),
    ];
    for wrong in wrong_opens {
        let refused = Opened::start(&broker, wrong.clone()).await.answer().await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{wrong:?}: {refused}");
    }
    let wrong_steps = [
        (batch(1, vec![record("x")]), Code::InvalidArgument),
        (batch(0, vec![]), Code::InvalidArgument),
        (batch(0, vec![to(2, "x")]), Code::NotFound),
        (batch(0, vec![to(-1, "x")]), Code::NotFound),
        (open(None, &none), Code::InvalidArgument),
    ];
    for (wrong, code) in wrong_steps {
        let mut stream = Opened::start(&broker, open(None, &none)).await;
        stream.session().await.unwrap();
        stream.send.send(step(wrong.clone())).unwrap();
        let refused = stream.ack().await.unwrap_err();
        assert_eq!(refused.code(), code, "{wrong:?}: {refused}");
    }
    // A producer that nobody has granted.
    let stranger = Session {
        producer_id: 1 << 40,
        ..session
    };
    let mut stream = Opened::start(&broker, open(Some(stranger), &none)).await;
    stream.session().await.unwrap();
    stream.batch(0, vec![record("x")]);
    let refused = stream.ack().await.unwrap_err();
    assert_eq!(detail(&refused).kafka_name, "INVALID_PRODUCER_ID_MAPPING", "{refused}");
}

#[tokio::test]
async fn a_client_that_does_not_wait_for_acks_is_told() {
    let broker = Broker::start().await;
    broker.connect().await.create("t", 1, &[]).await;
    let mut client = Resuming::new();
    let mut stream = client.open(&broker).await;
    client.send(&stream, vec![record("first")]);
    client.take_ack(&mut stream).await;
    for nth in 0..200 {
        client.send(&stream, vec![record(&nth.to_string())]);
    }
    let refused = loop {
        match stream.ack().await {
            Ok(ack) => assert!(ack.number < 200),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert!(refused.message().contains("wait for their acks"), "{refused}");
}

#[tokio::test]
async fn what_came_before_something_wrong_is_acknowledged_first() {
    let broker = Broker::start().await;
    broker.connect().await.create("t", 1, &[]).await;
    let mut client = Resuming::new();
    let mut stream = client.open(&broker).await;
    client.send(&stream, vec![record("0")]);
    client.send(&stream, vec![record("1")]);
    stream.batch(2, Vec::new());
    client.take_ack(&mut stream).await;
    client.take_ack(&mut stream).await;
    let refused = stream.ack().await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert!(refused.message().contains("has no records"), "{refused}");
}

#[tokio::test]
async fn acks_do_not_wait_for_a_batch_whose_predecessor_is_missing() {
    let settings = [("esker.produce.order.wait", "1h"), ("esker.flush.age", "200ms")];
    let broker = World::new().start(&settings).await;
    broker
        .connect()
        .await
        .create("t", 1, &[("max.message.bytes", "1000")])
        .await;
    let mut client = Resuming::new();
    let mut stream = client.open(&broker).await;
    client.send(&stream, vec![record("0")]);
    client.take_ack(&mut stream).await;
    client.send(&stream, vec![record("1")]);
    client.send(&stream, vec![record(&"x".repeat(2_000))]);
    client.send(&stream, vec![record("3")]);
    let acked = tokio::time::timeout(Duration::from_secs(30), client.take_ack(&mut stream));
    acked.await.expect("it waits for what is not its own");
}

#[tokio::test]
async fn a_partition_that_the_session_does_not_have_takes_another_session() {
    let broker = Broker::start().await;
    broker.connect().await.create("t", 2, &[]).await;
    let mut client = Resuming::new();
    let mut stream = client.open(&broker).await;
    client.send(&stream, vec![to(2, "x")]);
    let refused = detail(&stream.ack().await.unwrap_err());
    assert!(
        !refused.retriable && refused.what_to_do.contains("new session"),
        "{refused:?}"
    );
}
