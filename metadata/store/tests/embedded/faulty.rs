//! A disk that behaves as disks do on a bad day: full, failing, and forgetful when the power goes.
//!
//! Owns: the model. What was written and not synced may be lost, in any order and torn at sector borders. A failed sync
//! drops the dirty marks of its pages: reading shows them, a later sync does not write them.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use esker_metadata::embedded::disk::{Disk, Medium};

const SECTOR: usize = 512;

/// How bad a day it is, in tenths of a percent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Day {
    pub(crate) write_fails: u64,
    pub(crate) sync_fails: u64,
    pub(crate) promote_fails: u64,
    pub(crate) fresh_fails: u64,
    /// Bytes that fit.
    pub(crate) capacity: Option<u64>,
}

/// One file: what reading shows, what would survive, and what is on its way there.
#[derive(Clone, Debug, Default)]
struct File {
    visible: Vec<u8>,
    durable: Vec<u8>,
    dirty: Vec<Change>,
}

/// A write: where, and what.
type Change = (usize, Vec<u8>);

#[derive(Debug, Default)]
struct State {
    real: Option<File>,
    fresh: Option<File>,
    day: Day,
    random: u64,
    /// Handles of an earlier boot are dead.
    boot: u64,
    /// Rises when the real file is replaced.
    replaced: u64,
    /// How often a new file was begun.
    begun: u64,
    /// The machine stops when so many more calls were made.
    calls_left: Option<u64>,
}

/// The machine that the disk is in. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Machine {
    state: Arc<Mutex<State>>,
    pub(crate) syncs: Arc<AtomicU64>,
}

impl File {
    fn write(&mut self, at: usize, data: &[u8]) {
        apply(&mut self.visible, at, data);
        self.dirty.push((at, data.to_vec()));
    }
}

fn apply(bytes: &mut Vec<u8>, at: usize, data: &[u8]) {
    if bytes.len() < at + data.len() {
        bytes.resize(at + data.len(), 0);
    }
    bytes[at..at + data.len()].copy_from_slice(data);
}

impl State {
    fn roll(&mut self) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.random >> 33
    }

    fn hits(&mut self, permille: u64) -> bool {
        permille > 0 && self.roll() % 1000 < permille
    }

    /// Counts a call; fails when the machine has stopped.
    fn call(&mut self) -> io::Result<()> {
        match &mut self.calls_left {
            Some(0) => Err(io::Error::other("machine has stopped")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// What reaches the platter of changes that no sync confirmed: each sector or not.
    fn tear(&mut self, file: &mut File) {
        for (at, data) in std::mem::take(&mut file.dirty) {
            for (sector, part) in data.chunks(SECTOR).enumerate() {
                if self.hits(500) {
                    apply(&mut file.durable, at + sector * SECTOR, part);
                }
            }
        }
    }
}

impl Machine {
    pub(crate) fn new(seed: u64) -> Self {
        let this = Self::default();
        this.state().random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        this
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Changes the weather.
    pub(crate) fn set_day(&self, day: Day) {
        self.state().day = day;
    }

    /// How often the whole file was replaced by a new one.
    pub(crate) fn replaced(&self) -> u64 {
        self.state().replaced
    }

    /// Length of the file.
    pub(crate) fn file_bytes(&self) -> usize {
        self.state().real.as_ref().map_or(0, |file| file.visible.len())
    }

    /// The bytes of the file.
    pub(crate) fn file(&self) -> Vec<u8> {
        self.state()
            .real
            .as_ref()
            .map_or(Vec::new(), |file| file.visible.clone())
    }

    /// A machine whose disk holds this file.
    pub(crate) fn holding(bytes: Vec<u8>) -> Self {
        let this = Self::new(1);
        this.state().real = Some(File {
            visible: bytes.clone(),
            durable: bytes,
            dirty: Vec::new(),
        });
        this
    }

    /// How often a new file was begun.
    pub(crate) fn begun(&self) -> u64 {
        self.state().begun
    }

    /// Stops the machine after so many calls more.
    pub(crate) fn stop_after(&self, calls: u64) {
        self.state().calls_left = Some(calls);
    }

    /// Whether the calls that were left are used up.
    pub(crate) fn has_stopped(&self) -> bool {
        self.state().calls_left == Some(0)
    }

    /// The process is killed. Handles that are open are dead from now on; the kernel remembers what was written.
    pub(crate) fn kill(&self) {
        let mut state = self.state();
        state.boot += 1;
        state.calls_left = None;
    }

    /// The power goes. Handles that are open are dead from now on.
    pub(crate) fn lose_power(&self) {
        self.kill();
        let mut state = self.state();
        state.fresh = None;
        if let Some(mut file) = state.real.take() {
            state.tear(&mut file);
            file.visible = file.durable.clone();
            state.real = Some(file);
        }
    }

    pub(crate) fn medium(&self) -> Box<dyn Medium> {
        Box::new(Slot { machine: self.clone() })
    }

    fn handle(&self, state: &State, fresh: bool) -> Arc<dyn Disk> {
        let (boot, replaced) = (state.boot, state.replaced);
        Arc::new(Handle {
            machine: self.clone(),
            boot,
            replaced,
            fresh,
        })
    }
}

/// The directory.
#[derive(Debug)]
struct Slot {
    machine: Machine,
}

impl Medium for Slot {
    fn open(&self) -> io::Result<Option<Arc<dyn Disk>>> {
        let mut state = self.machine.state();
        state.call()?;
        Ok(state.real.is_some().then(|| self.machine.handle(&state, false)))
    }

    fn fresh(&self) -> io::Result<Arc<dyn Disk>> {
        let mut state = self.machine.state();
        state.call()?;
        state.begun += 1;
        let fresh_fails = state.day.fresh_fails;
        if state.hits(fresh_fails) {
            return Err(io::Error::other("injected: create"));
        }
        state.fresh = Some(File::default());
        Ok(self.machine.handle(&state, true))
    }

    fn promote(&self) -> io::Result<()> {
        let mut state = self.machine.state();
        state.call()?;
        let promote_fails = state.day.promote_fails;
        let fails = state.hits(promote_fails);
        // The rename may have been done although making it durable failed.
        if !fails || state.hits(500) {
            state.real = state.fresh.take();
            state.replaced += 1;
        }
        if fails {
            return Err(io::Error::other("injected: rename"));
        }
        Ok(())
    }
}

/// An open file.
#[derive(Debug)]
struct Handle {
    machine: Machine,
    boot: u64,
    /// Count of replacements when it was opened: a fresh file becomes the real one with the next.
    replaced: u64,
    fresh: bool,
}

impl Handle {
    fn with<T>(&self, with: impl FnOnce(&mut State, &mut File) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.machine.state();
        if state.boot != self.boot {
            return Err(io::Error::other("machine is off"));
        }
        state.call()?;
        let promoted = state.replaced > self.replaced;
        // A handle of a file that was replaced goes on to an unlinked file, which nobody sees.
        let unlinked = if self.fresh {
            state.replaced > self.replaced + 1
        } else {
            promoted
        };
        if unlinked {
            return Err(io::Error::other("file was replaced"));
        }
        let at_fresh = self.fresh && !promoted;
        let slot = if at_fresh {
            state.fresh.take()
        } else {
            state.real.take()
        };
        let mut file = slot.expect("a handle has a file");
        let done = with(&mut state, &mut file);
        if at_fresh {
            state.fresh = Some(file);
        } else {
            state.real = Some(file);
        }
        done
    }
}

impl Disk for Handle {
    fn len(&self) -> io::Result<u64> {
        self.with(|_, file| Ok(file.visible.len() as u64))
    }

    fn read(&self, position: u64, out: &mut [u8]) -> io::Result<()> {
        self.with(|_, file| {
            let at = usize::try_from(position).unwrap();
            let found = file
                .visible
                .get(at..at + out.len())
                .ok_or(io::ErrorKind::UnexpectedEof)?;
            out.copy_from_slice(found);
            Ok(())
        })
    }

    fn write(&self, position: u64, data: &[u8]) -> io::Result<()> {
        self.with(|state, file| {
            let at = usize::try_from(position).unwrap();
            let end = position + data.len() as u64;
            // The file that takes its place, or whose place it takes, is there too.
            let other = [&state.real, &state.fresh].into_iter().flatten();
            let taken = end.max(file.visible.len() as u64) + other.map(|file| file.visible.len() as u64).sum::<u64>();
            if state.day.capacity.is_some_and(|capacity| taken > capacity) && end > file.visible.len() as u64 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            if state.hits(state.day.write_fails) {
                // Part of it may have been written all the same.
                let some = usize::try_from(state.roll()).unwrap() % (data.len() + 1);
                file.write(at, &data[..some]);
                return Err(io::Error::other("injected: write"));
            }
            file.write(at, data);
            Ok(())
        })
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.with(|_, file| {
            let length = usize::try_from(bytes).unwrap();
            file.visible.truncate(length);
            // No file is cut below what was synced, so a crash may leave it as long as before and nobody minds.
            file.dirty.retain(|(at, data)| at + data.len() <= length);
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.machine.syncs.fetch_add(1, Ordering::Relaxed);
        self.with(|state, file| {
            if state.hits(state.day.sync_fails) {
                state.tear(file);
                return Err(io::Error::other("injected: sync"));
            }
            for (at, data) in std::mem::take(&mut file.dirty) {
                apply(&mut file.durable, at, &data);
            }
            Ok(())
        })
    }
}
