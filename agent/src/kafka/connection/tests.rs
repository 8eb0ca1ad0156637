//! What a connection promises, over an in-memory stream.

use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};

use tokio::io::{DuplexStream, duplex};
use tokio::sync::oneshot;

use super::*;

/// Answers each frame with itself. Frames that begin with `p` are pipelined and wait for their release.
#[derive(Default)]
struct Echo {
    accepted: Mutex<Vec<Bytes>>,
    held: Mutex<Vec<oneshot::Sender<()>>>,
    seen: Notify,
}

#[async_trait::async_trait]
impl Service for Echo {
    async fn accept(&self, _connection: &ConnectionContext, frame: Frame) -> Result<Accepted, CloseConnection> {
        self.accepted.lock().unwrap().push(frame.bytes.clone());
        let pipelined = frame.bytes.starts_with(b"p");
        let (release, released) = oneshot::channel();
        if pipelined {
            self.held.lock().unwrap().push(release);
        }
        self.seen.notify_one();
        let reply = async move {
            if pipelined {
                released.await.expect("the test releases it");
            }
            let length = u32::try_from(frame.bytes.len()).unwrap().to_be_bytes();
            drop(frame.budget);
            Ok(Some(vec![Bytes::copy_from_slice(&length), frame.bytes]))
        };
        Ok(Accepted {
            reply: Box::pin(reply),
            pipelined,
        })
    }
}

struct Served {
    client: DuplexStream,
    echo: Arc<Echo>,
    budget: ByteBudget,
    stop: CancellationToken,
    ended: tokio::task::JoinHandle<()>,
}

fn serve(request_bytes_max: usize, budget_bytes: usize) -> Served {
    let (client, server) = duplex(1 << 20);
    let echo = Arc::new(Echo::default());
    let budget = ByteBudget::new(budget_bytes);
    let stop = CancellationToken::new();
    let address = "127.0.0.1:1".parse().unwrap();
    let context = ConnectionContext {
        id: 1,
        peer: address,
        local: address,
    };
    let limits = ConnectionLimits {
        request_bytes_max,
        idle_max: Duration::from_secs(600),
    };
    let service: Arc<dyn Service> = Arc::clone(&echo) as Arc<dyn Service>;
    let ended = tokio::spawn(run(server, context, service, budget.clone(), limits, stop.clone()));
    Served {
        client,
        echo,
        budget,
        stop,
        ended,
    }
}

impl Served {
    async fn send(&mut self, body: &[u8]) {
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        self.client.write_all(&length).await.unwrap();
        self.client.write_all(body).await.unwrap();
    }

    async fn receive(&mut self) -> Vec<u8> {
        let length = self.client.read_u32().await.unwrap();
        let mut body = vec![0; usize::try_from(length).unwrap()];
        self.client.read_exact(&mut body).await.unwrap();
        body
    }

    async fn accepted(&self, count: usize) {
        while self.echo.accepted.lock().unwrap().len() < count {
            self.echo.seen.notified().await;
        }
    }
}

#[tokio::test]
async fn pipelined_request_is_taken_in_before_the_one_before_it_is_answered() {
    let mut served = serve(1000, 10_000);
    served.send(b"p1").await;
    served.send(b"p2").await;
    served.accepted(2).await;
    let held = std::mem::take(&mut *served.echo.held.lock().unwrap());
    // The second is ready first, and still leaves second.
    for release in held.into_iter().rev() {
        release.send(()).unwrap();
    }
    assert_eq!(served.receive().await, b"p1");
    assert_eq!(served.receive().await, b"p2");
}

#[tokio::test]
async fn nothing_overtakes_a_request_that_is_not_pipelined() {
    let mut served = serve(1000, 10_000);
    served.send(b"p1").await;
    served.send(b"x2").await;
    served.send(b"p3").await;
    served.accepted(2).await;
    tokio::task::yield_now().await;
    assert_eq!(
        served.echo.accepted.lock().unwrap().len(),
        2,
        "the third waits for the second"
    );
    let held = std::mem::take(&mut *served.echo.held.lock().unwrap());
    for release in held {
        release.send(()).unwrap();
    }
    assert_eq!(served.receive().await, b"p1");
    assert_eq!(served.receive().await, b"x2");
    served.accepted(3).await;
}

#[tokio::test]
async fn oversized_and_negative_lengths_close_the_connection_without_allocation() {
    for length in [1001_i32, i32::MAX, -1, i32::MIN] {
        let mut served = serve(1000, 10_000);
        served.client.write_all(&length.to_be_bytes()).await.unwrap();
        served.ended.await.unwrap();
        assert_eq!(served.budget.available(), 10_000);
    }
}

#[tokio::test]
async fn frame_waits_for_the_byte_budget_and_gives_it_back() {
    let mut served = serve(1000, 600);
    served.send(&[b"p".as_slice(), &[1; 499]].concat()).await;
    served.accepted(1).await;
    served.send(&[b"p".as_slice(), &[2; 499]].concat()).await;
    tokio::task::yield_now().await;
    assert_eq!(
        served.echo.accepted.lock().unwrap().len(),
        1,
        "no budget for the second"
    );
    let first = served.echo.held.lock().unwrap().remove(0);
    first.send(()).unwrap();
    served.receive().await;
    served.accepted(2).await;
    let second = served.echo.held.lock().unwrap().remove(0);
    second.send(()).unwrap();
    served.receive().await;
    assert_eq!(served.budget.available(), 600);
}

#[tokio::test]
async fn stuck_producers_keep_nobody_else_from_being_served() {
    let mut served = serve(1000, 800);
    let stuck = served.budget.take(Purpose::Produce, 700, 700).await.unwrap();
    served.send(b"heartbeat").await;
    assert_eq!(served.receive().await, b"heartbeat");
    served.send(b"\0\0produce").await;
    tokio::task::yield_now().await;
    assert_eq!(served.echo.accepted.lock().unwrap().len(), 1, "no budget for it");
    drop(stuck);
    assert_eq!(served.receive().await, b"\0\0produce");
}

#[tokio::test]
async fn half_closed_connection_gets_its_answers() {
    let mut served = serve(1000, 10_000);
    served.send(b"p1").await;
    served.accepted(1).await;
    served.client.shutdown().await.unwrap();
    let release = served.echo.held.lock().unwrap().remove(0);
    release.send(()).unwrap();
    assert_eq!(served.receive().await, b"p1");
    served.ended.await.unwrap();
}

#[tokio::test]
async fn drained_connection_answers_what_it_has_and_ends() {
    let mut served = serve(1000, 10_000);
    served.send(b"p1").await;
    served.accepted(1).await;
    served.stop.cancel();
    let release = served.echo.held.lock().unwrap().remove(0);
    release.send(()).unwrap();
    assert_eq!(served.receive().await, b"p1");
    served.ended.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn silent_and_stalled_peers_are_let_go() {
    let silent = serve(1000, 10_000);
    silent.ended.await.unwrap();

    let mut stalled = serve(1000, 10_000);
    stalled.client.write_all(&500_u32.to_be_bytes()).await.unwrap();
    stalled.ended.await.unwrap();
    assert_eq!(stalled.budget.available(), 10_000);
}

#[tokio::test]
async fn promised_length_takes_no_budget_from_others() {
    let mut liar = serve(100_000_000, 1_000_000);
    liar.client.write_all(&100_000_000_u32.to_be_bytes()).await.unwrap();
    liar.client.write_all(b"1234").await.unwrap();
    while liar.budget.available() == 1_000_000 {
        tokio::task::yield_now().await;
    }
    assert!(liar.budget.available() >= 1_000_000 - FRAME_ALLOCATION_FIRST);
}

#[tokio::test]
async fn large_frame_arrives_whole_and_takes_its_budget() {
    let mut served = serve(1_000_000, 1_000_000);
    let body = [b"p".as_slice(), &[7; 499_999]].concat();
    served.send(&body).await;
    served.accepted(1).await;
    assert_eq!(served.budget.available(), 500_000);
    served.echo.held.lock().unwrap().remove(0).send(()).unwrap();
    assert_eq!(served.receive().await, body);
    assert_eq!(served.budget.available(), 1_000_000);
}

#[tokio::test]
async fn frames_of_many_sizes_arrive_whole_one_after_the_other() {
    let mut served = serve(1_000_000, 2_000_000);
    for round in 0..3 {
        for size in [10, 500_000, 16_384, 16_385, 999_999, 70_000] {
            let body = [b"p".as_slice(), &vec![round; size]].concat();
            served.send(&body).await;
            served.accepted(1).await;
            // Let go of the frame, so that its memory is used for the next one.
            served.echo.accepted.lock().unwrap().clear();
            assert_eq!(served.budget.available(), 2_000_000 - body.len());
            served.echo.held.lock().unwrap().remove(0).send(()).unwrap();
            assert_eq!(served.receive().await, body);
        }
    }
}

/// Takes everything, and remembers what came in each write.
#[derive(Default)]
struct Writes(Vec<Vec<u8>>);

impl AsyncWrite for Writes {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.0.push(data.to_vec());
        Poll::Ready(Ok(data.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let data: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        let length = data.len();
        self.0.push(data);
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn answers_that_are_there_leave_with_one_write_and_those_before_a_failure_leave() {
    let (replies, queue) = mpsc::channel(8);
    let answer = |data: &'static [u8]| -> Reply { Box::pin(async move { Ok(Some(vec![Bytes::from_static(data)])) }) };
    let barrier = Barrier::default();
    barrier.exclusive.fetch_add(1, Ordering::AcqRel);
    let (release, released) = oneshot::channel::<()>();
    let late: Reply = Box::pin(async move {
        released.await.expect("the test releases it");
        Ok(Some(vec![Bytes::from_static(b"late")]))
    });
    let none: Reply = Box::pin(async { Ok(None) });
    let broken: Reply = Box::pin(async { Err(CloseConnection("broken".to_owned())) });
    let all = [
        answer(b"1"),
        none,
        answer(b"2"),
        late,
        answer(b"3"),
        answer(b"4"),
        broken,
    ];
    for (nth, reply) in all.into_iter().enumerate() {
        replies.send((reply, nth != 4)).await.unwrap();
    }
    let mut writes = Writes::default();
    let ended = tokio::join!(write_loop(&mut writes, queue, &barrier), async {
        tokio::task::yield_now().await;
        release.send(()).unwrap();
    });
    assert_eq!(ended.0, Err(CloseConnection("broken".to_owned())));
    let expected: [&[u8]; 4] = [b"12", b"late", b"3", b"4"];
    assert_eq!(writes.0, expected);
    assert_eq!(barrier.exclusive.load(Ordering::Acquire), 0);
}
