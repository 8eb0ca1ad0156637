//! What becomes of batches when one of them is refused.

use std::time::Duration;

use esker_proto::v1;
use tokio::sync::Semaphore;
use tonic::Code;

use super::*;

fn driver() -> Driver {
    let settings = Settings {
        topic: "t".to_owned(),
        linger: Duration::ZERO,
        batch_bytes: 1,
        buffer_bytes: 1_000,
        buffer_records: 1_000,
        delivery_timeout: Duration::from_secs(60),
        session_age: Duration::from_secs(60),
    };
    let budget = Budget {
        bytes: Semaphore::new(0),
        records: Semaphore::new(0),
    };
    Driver {
        client: Client::builder().address("http://127.0.0.1:1").build().unwrap(),
        queue: Queue::new(settings.linger, settings.batch_bytes),
        settings,
        inbox: mpsc::unbounded_channel().1,
        ended: false,
        budget: Arc::new(budget),
        session: Session::new(false),
        link: Link::Down,
        outage: None,
        last_error: None,
        careful: false,
        renew: false,
        received: 0,
        flushes: VecDeque::new(),
        failure: None,
    }
}

/// Has a batch of one record sent.
fn send(driver: &mut Driver, nth: u64) -> oneshot::Receiver<Result<Stored, Error>> {
    let (reply, outcome) = oneshot::channel();
    driver.session.push(vec![Pending {
        nth,
        record: v1::Record::default(),
        bytes: 1,
        held: 1,
        accepted: Instant::now(),
        reply,
    }]);
    let place = usize::try_from(nth).unwrap();
    assert!(driver.session.message(place).is_some());
    outcome
}

fn refused(kafka_code: i32) -> Error {
    let detail = v1::ErrorDetail {
        kafka_code,
        ..v1::ErrorDetail::default()
    };
    let status = esker_proto::status(Code::InvalidArgument, "no", &detail);
    Error::of_status(&status, "http://a:1")
}

#[tokio::test]
async fn what_may_be_stored_over_a_connection_that_was_lost_is_not_sent_in_another_session() {
    let mut driver = driver();
    let mut outcomes: Vec<_> = (0..4).map(|nth| send(&mut driver, nth)).collect();
    driver.session.doubt(3);
    let stored = StoredBatch {
        number: 1,
        partitions: vec![5],
        offsets: vec![7],
    };
    driver.refused(&refused(code::MESSAGE_TOO_LARGE), &[stored]);
    let unknown = |outcome| matches!(outcome, Ok(Err(Error::Unknown(_))));
    assert!(unknown(outcomes[0].try_recv()));
    let place = outcomes[1].try_recv().unwrap().unwrap();
    assert_eq!((place.partition, place.offset), (5, 7));
    assert!(unknown(outcomes[2].try_recv()), "the agent need not have read it again");
    assert!(outcomes[3].try_recv().is_err(), "it was sent over this connection only");
    assert_eq!(driver.oldest().map(|pending| pending.nth), Some(3));
}

#[test]
fn only_who_has_refused_a_batch_has_waited_for_those_after_it() {
    assert!(tells_of_all(&refused(code::MESSAGE_TOO_LARGE)));
    assert!(!tells_of_all(&refused(code::REQUEST_TIMED_OUT)));
    assert!(!tells_of_all(&Error::of_status(
        &Status::internal("a bug"),
        "http://a:1"
    )));
}
