//! Waking at a moment, not at the next millisecond.
//!
//! Owns: a timer of the kernel. Tokio's own timers have a resolution of a millisecond, which is much of what is to be measured.

use tokio::time::Instant;

#[cfg(target_os = "linux")]
pub(super) use self::precise::Alarm;
#[cfg(not(target_os = "linux"))]
pub(super) use self::rough::Alarm;

#[cfg(target_os = "linux")]
mod precise {
    use std::os::fd::OwnedFd;

    use anyhow::Context as _;
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
    };
    use tokio::io::unix::AsyncFd;

    use super::Instant;

    /// One alarm; set again and again.
    pub(in crate::bench) struct Alarm {
        timer: AsyncFd<OwnedFd>,
        set: Option<Instant>,
    }

    impl Alarm {
        pub(in crate::bench) fn new() -> anyhow::Result<Self> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags).context("cannot have a timer")?;
            #[expect(
                deprecated,
                reason = "an OwnedFd keeps its descriptor; the newer constructor is unsafe"
            )]
            let timer = AsyncFd::new(timer).context("cannot wait for a timer")?;
            Ok(Self { timer, set: None })
        }

        /// Waits until then. Waiting may be given up and begun again.
        pub(in crate::bench) async fn until(&mut self, at: Instant) -> anyhow::Result<()> {
            loop {
                let left = at.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(());
                }
                if self.set != Some(at) {
                    let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
                    let value = Itimerspec {
                        it_interval: zero,
                        it_value: left.try_into().context("cannot wait that long")?,
                    };
                    timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &value).context("cannot set a timer")?;
                    self.set = Some(at);
                }
                let mut ready = self.timer.readable().await.context("cannot wait for a timer")?;
                // Setting it again makes it unreadable, so nothing has to be read from it.
                ready.clear_ready();
                self.set = None;
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod rough {
    use super::Instant;

    /// One alarm; set again and again.
    pub(in crate::bench) struct Alarm;

    impl Alarm {
        pub(in crate::bench) fn new() -> anyhow::Result<Self> {
            Ok(Self)
        }

        /// Waits until then. Waiting may be given up and begun again.
        pub(in crate::bench) async fn until(&mut self, at: Instant) -> anyhow::Result<()> {
            tokio::time::sleep_until(at).await;
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn an_alarm_never_rings_early_and_can_be_set_again() {
        let mut alarm = Alarm::new().unwrap();
        let began = Instant::now();
        for millis in [1, 3, 2] {
            let at = began + Duration::from_millis(millis);
            alarm.until(at).await.unwrap();
            assert!(Instant::now() >= at);
        }
        // One that is given up does not ring into the next.
        let far = began + Duration::from_secs(3_600);
        let given_up = tokio::time::timeout(Duration::from_millis(1), alarm.until(far)).await;
        assert!(given_up.is_err());
        let soon = Instant::now() + Duration::from_millis(2);
        alarm.until(soon).await.unwrap();
        assert!(Instant::now() >= soon && Instant::now() < far);
    }
}
