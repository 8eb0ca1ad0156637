//! A value that one task moves and others wait for.
//!
//! Owns: waiting until the value satisfies a condition. Like `tokio::sync::watch`, but waiters wake in the order in which
//! they began to wait: that one wakes them in random order, which would make simulations unrepeatable.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// The other end of a signal is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody moves this signal any more")]
pub struct Closed;

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    moved: Notify,
}

#[derive(Clone, Copy, Debug)]
struct State<T> {
    value: T,
    closed: bool,
}

/// The end that moves the value. Dropping it closes the signal.
#[derive(Debug)]
pub struct Sender<T: Copy> {
    shared: Arc<Shared<T>>,
}

/// An end that looks and waits.
#[derive(Debug)]
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
}

/// A signal with its first value.
#[must_use]
pub fn signal<T: Copy>(value: T) -> (Sender<T>, Receiver<T>) {
    let state = Mutex::new(State { value, closed: false });
    let shared = Arc::new(Shared {
        state,
        moved: Notify::new(),
    });
    (
        Sender {
            shared: Arc::clone(&shared),
        },
        Receiver { shared },
    )
}

impl<T: Copy> Shared<T> {
    fn with<R>(&self, with: impl FnOnce(&mut State<T>) -> R) -> R {
        with(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T: Copy> Sender<T> {
    /// The value.
    #[must_use]
    pub fn get(&self) -> T {
        self.shared.with(|state| state.value)
    }

    /// Moves the value and wakes whoever waits.
    pub fn set(&self, value: T) {
        self.shared.with(|state| state.value = value);
        self.shared.moved.notify_waiters();
    }

    /// Moves the value to what follows from it, and wakes whoever waits.
    pub fn modify(&self, next: impl FnOnce(T) -> T) {
        self.shared.with(|state| state.value = next(state.value));
        self.shared.moved.notify_waiters();
    }

    /// Another receiver.
    #[must_use]
    pub fn subscribe(&self) -> Receiver<T> {
        Receiver {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<T: Copy> Drop for Sender<T> {
    fn drop(&mut self) {
        self.shared.with(|state| state.closed = true);
        self.shared.moved.notify_waiters();
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<T: Copy> Receiver<T> {
    /// The value; the last one when the signal is closed.
    #[must_use]
    pub fn get(&self) -> T {
        self.shared.with(|state| state.value)
    }

    /// Waits until the value is as wanted. Cancel-safe.
    ///
    /// # Errors
    /// The signal was closed before that.
    pub async fn wait_for(&self, wanted: impl Fn(T) -> bool) -> Result<T, Closed> {
        loop {
            let mut moved = std::pin::pin!(self.shared.moved.notified());
            // From here on no move is missed.
            moved.as_mut().enable();
            let State { value, closed } = self.shared.with(|state| *state);
            if wanted(value) {
                return Ok(value);
            }
            if closed {
                return Err(Closed);
            }
            moved.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waiters_wake_in_the_order_in_which_they_came() {
        let (sender, receiver) = signal(0);
        let order = Arc::new(Mutex::new(Vec::new()));
        let waiters: Vec<_> = (0..50)
            .map(|waiter| {
                let (receiver, order) = (receiver.clone(), order.clone());
                tokio::spawn(async move {
                    receiver.wait_for(|value| value == 2).await.unwrap();
                    order.lock().unwrap().push(waiter);
                })
            })
            .collect();
        tokio::task::yield_now().await;
        sender.set(1);
        tokio::task::yield_now().await;
        sender.set(2);
        for waiter in waiters {
            waiter.await.unwrap();
        }
        assert!(order.lock().unwrap().is_sorted());
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_signal_ends_waiting_but_keeps_its_value() {
        let (sender, receiver) = signal(1);
        let waiting = tokio::spawn({
            let receiver = receiver.clone();
            async move { receiver.wait_for(|value| value == 2).await }
        });
        tokio::task::yield_now().await;
        drop(sender);
        assert_eq!(waiting.await.unwrap(), Err(Closed));
        assert_eq!(receiver.wait_for(|value| value == 1).await, Ok(1));
        assert_eq!(receiver.get(), 1);
    }
}
