//! Messages that come in pieces, too slowly, or when there is no memory.

use futures::FutureExt;
use http_body::Body as _;
use tokio::sync::mpsc;
use tonic::Code;

use super::*;
use crate::grpc::gathered::PREFIX_BYTES;

/// A body of what is sent to it.
struct Fed(mpsc::UnboundedReceiver<Bytes>);

impl http_body::Body for Fed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.0
            .poll_recv(cx)
            .map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

fn metered(budget: &ByteBudget) -> (mpsc::UnboundedSender<Bytes>, Metered) {
    let (feed, fed) = mpsc::unbounded_channel();
    let body = Body::new(Fed(fed));
    let metered = Metered::new(body, (budget.clone(), Purpose::Produce), 1_000, Received::default());
    (feed, metered)
}

async fn next(metered: &mut Metered) -> Option<Result<Bytes, Status>> {
    let frame = std::future::poll_fn(|cx| Pin::new(&mut *metered).poll_frame(cx)).await?;
    Some(frame.map(|frame| frame.into_data().unwrap()))
}

fn message(length: u8) -> Vec<u8> {
    let mut message = vec![0, 0, 0, 0, length];
    message.resize(PREFIX_BYTES + usize::from(length), 7);
    message
}

#[tokio::test(start_paused = true)]
async fn messages_are_handed_on_whole_and_their_budget_with_them() {
    let budget = ByteBudget::new(1 << 20);
    let (feed, mut metered) = metered(&budget);
    let both = [message(9), message(0)].concat();
    for piece in both[..13].chunks(2) {
        feed.send(Bytes::copy_from_slice(piece)).unwrap();
        assert!(
            next(&mut metered).now_or_never().is_none(),
            "the message is not complete"
        );
    }
    feed.send(Bytes::copy_from_slice(&both[13..])).unwrap();
    assert_eq!(next(&mut metered).await.unwrap().unwrap(), both);
    assert_eq!(budget.available(), (1 << 20) - both.len());
    drop(metered.received.take());
    assert_eq!(budget.available(), 1 << 20);
    // What ends within a message is for the decoder to refuse.
    feed.send(Bytes::copy_from_slice(&message(9)[..7])).unwrap();
    drop(feed);
    assert_eq!(next(&mut metered).await.unwrap().unwrap().len(), 7);
    assert!(next(&mut metered).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_message_that_trickles_ends_its_call_and_a_pause_between_messages_does_not() {
    let budget = ByteBudget::new(1 << 20);
    let (feed, mut metered) = metered(&budget);
    feed.send(Bytes::from(message(3))).unwrap();
    assert!(next(&mut metered).await.unwrap().is_ok());
    let hour = Duration::from_secs(3_600);
    let waited = tokio::time::timeout(hour, next(&mut metered)).await;
    assert!(waited.is_err(), "the next one has not begun");
    let trickle = tokio::spawn(async move {
        for byte in message(200) {
            feed.send(Bytes::copy_from_slice(&[byte])).unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let began = Instant::now();
    let refused = next(&mut metered).await.unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::DeadlineExceeded);
    assert!(
        began.elapsed() <= MESSAGE_DEADLINE + Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    trickle.abort();
}

#[tokio::test(start_paused = true)]
async fn a_call_of_which_nothing_comes_ends() {
    let (_feed, mut metered) = metered(&ByteBudget::new(1 << 20));
    let began = Instant::now();
    let refused = next(&mut metered).await.unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::DeadlineExceeded);
    assert_eq!(began.elapsed(), MESSAGE_DEADLINE);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_too_long_is_refused_before_it_comes() {
    let budget = ByteBudget::new(1 << 20);
    let (feed, mut metered) = metered(&budget);
    feed.send(Bytes::from_static(&[0, 0, 0, 3, 233])).unwrap();
    let refused = next(&mut metered).await.unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(refused.message().contains("1001 bytes"), "{refused}");
    assert!(!esker_proto::error_detail(&refused).unwrap().retriable, "{refused}");
}

#[tokio::test(start_paused = true)]
async fn without_budget_a_call_ends_after_a_while() {
    let budget = ByteBudget::new(80);
    let (feed, mut metered) = metered(&budget);
    let _held = budget.take(Purpose::Produce, 70, 70).await.unwrap();
    feed.send(Bytes::from(message(60))).unwrap();
    let refused = next(&mut metered).await.unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(esker_proto::error_detail(&refused).unwrap().retriable, "{refused}");
    assert_eq!(budget.available(), 10);
}

/// As clients that write without a pause send them: each frame ends one message and begins the next.
#[tokio::test(start_paused = true)]
async fn frames_that_end_one_message_and_begin_the_next_are_no_trickle() {
    let budget = ByteBudget::new(1 << 20);
    let (feed, mut metered) = metered(&budget);
    let mut bytes = Bytes::from(message(9).repeat(100));
    feed.send(bytes.split_to(7)).unwrap();
    assert!(next(&mut metered).now_or_never().is_none(), "half a message");
    while bytes.len() > 14 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        feed.send(bytes.split_to(14)).unwrap();
        let mut come = 0;
        while come < 14 {
            come += next(&mut metered).await.unwrap().unwrap().len();
        }
        assert_eq!(come, 14);
        assert!(next(&mut metered).now_or_never().is_none(), "half a message");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_is_not_slow_while_there_is_no_budget_for_what_it_has_sent() {
    let budget = ByteBudget::new(80);
    let (feed, mut metered) = metered(&budget);
    let mut bytes = Bytes::from(message(30));
    feed.send(bytes.split_to(10)).unwrap();
    assert!(next(&mut metered).now_or_never().is_none(), "half a message");
    tokio::time::sleep(Duration::from_secs(15)).await;
    let held = budget.take(Purpose::Produce, 60, 60).await.unwrap();
    feed.send(bytes.split_to(15)).unwrap();
    assert!(next(&mut metered).now_or_never().is_none(), "no budget");
    tokio::time::sleep(Duration::from_secs(29)).await;
    drop(held);
    assert!(next(&mut metered).now_or_never().is_none(), "half a message");
    tokio::time::sleep(Duration::from_secs(10)).await;
    feed.send(bytes).unwrap();
    assert_eq!(next(&mut metered).await.unwrap().unwrap().len(), 35);
}

#[tokio::test(start_paused = true)]
async fn a_client_is_not_slow_while_nobody_reads_what_it_sends() {
    let budget = ByteBudget::new(1 << 20);
    let (feed, mut metered) = metered(&budget);
    let mut bytes = Bytes::from(message(30));
    feed.send(bytes.split_to(10)).unwrap();
    assert!(next(&mut metered).now_or_never().is_none(), "half a message");
    feed.send(bytes.split_to(10)).unwrap();
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert!(next(&mut metered).now_or_never().is_none(), "half a message");
    tokio::time::sleep(Duration::from_secs(10)).await;
    feed.send(bytes).unwrap();
    assert_eq!(next(&mut metered).await.unwrap().unwrap().len(), 35);
}
