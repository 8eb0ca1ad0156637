//! Coordinators that take each other's place.
//!
//! Each goes on from what the store holds. What its predecessor was storing may have happened, up to any point. The predecessor
//! may live on for a while, with the clients that still talk to it; nothing that it stores happens any more.

use super::*;

/// A zombie lives for less than a session: its clients say nothing to the new coordinator.
const ZOMBIE_MAX: u64 = 4_000;

impl World {
    /// The coordinator has something stored; outcomes come in order.
    pub(super) fn store(&mut self, store: Store, works: bool) {
        let takes = self.hop();
        self.stores_end = self.stores_end.max(self.now + takes);
        let outcome = if works { Ok(()) } else { Err(GroupError::Unavailable) };
        self.storing.push_back((store.ticket, store.group, works));
        let event = Event::Stored {
            coordinator: self.coordinator,
            ticket: store.ticket,
            outcome,
        };
        self.after(self.stores_end - self.now, event);
    }

    pub(super) fn stored(&mut self, coordinator: u64, ticket: Ticket, outcome: Result<(), GroupError>) {
        if coordinator == self.coordinator {
            let (first, group, works) = self.storing.pop_front().expect("what is confirmed was sent");
            assert_eq!(first, ticket, "outcomes come in order");
            if works {
                self.durable = Some(group);
            }
            let fx = self.group.stored(self.now, ticket, outcome);
            self.carry_out(fx);
        } else if coordinator + 1 == self.coordinator
            && let Some(mut zombie) = self.zombie.take()
        {
            let fx = zombie.stored(self.now, ticket, Err(GroupError::NotCoordinator));
            self.zombie = Some(zombie);
            self.carry_out_late(fx);
        }
    }

    /// Another coordinator begins with what is stored.
    pub(super) fn take_over(&mut self) {
        if self.now >= CHAOS {
            return;
        }
        let again = self.dice.millis(2_000, 30_000);
        self.after(again, Event::TakeOver);
        self.end_zombie(self.coordinator.wrapping_sub(1));
        let happened = self.dice.below(u64::try_from(self.storing.len()).expect("few") + 1);
        for (_, group, works) in std::mem::take(&mut self.storing)
            .into_iter()
            .take(usize::try_from(happened).expect("few"))
        {
            if works {
                self.durable = Some(group);
            }
        }
        self.check_known();
        let rules = Arc::clone(&self.group.rules);
        let next = match self.durable.clone() {
            Some(stored) => Group::restore(rules, self.now, stored),
            None => Group::new(rules, self.now),
        };
        next.roster.check_sums();
        self.zombie = Some(std::mem::replace(&mut self.group, next));
        self.coordinator += 1;
        self.stores_end = self.now;
        let members = &self.group.roster;
        for client in &mut self.clients {
            // Who was given an id only by the coordinator before is not known to this one.
            client.may_be_unknown |= !members.contains(&client.member);
        }
        let ends = if self.dice.below(2) == 0 {
            0
        } else {
            self.dice.below(ZOMBIE_MAX)
        };
        let coordinator = self.coordinator - 1;
        self.after(Duration::from_millis(ends), Event::ZombieEnds { coordinator });
    }

    /// GRP-2: the store knows what anybody was told, and nothing that is older than that.
    fn check_known(&self) {
        let seed = self.seed;
        let stored = self.durable.as_ref();
        let newest = self.told.keys().next_back().copied().unwrap_or(0);
        let generation = stored.map_or(0, |stored| stored.generation.0);
        assert!(
            generation >= newest,
            "seed {seed}: told of {newest}, stored is {generation}"
        );
        for client in self.clients.iter().filter(|client| client.generation == generation) {
            let found = stored.and_then(|stored| stored.members.iter().find(|member| member.member == client.member));
            // A member that went, or was replaced, may not have heard of it.
            let Some(found) = found else { continue };
            if client.doing == Doing::Reading {
                let expected = assignment(generation, &client.name);
                assert_eq!(found.assignment, expected.as_bytes(), "seed {seed}: {client:?}");
                assert_eq!(
                    stored.map(|stored| stored.phase),
                    Some(StoredPhase::Stable),
                    "seed {seed}"
                );
            }
        }
    }

    /// The coordinator before hears that it is not one any more, and tells all who wait.
    pub(super) fn end_zombie(&mut self, coordinator: u64) {
        if coordinator.wrapping_add(1) == self.coordinator
            && let Some(mut zombie) = self.zombie.take()
        {
            let fx = zombie.end(&GroupError::NotCoordinator);
            self.carry_out_late(fx);
        }
    }

    /// A request arrives at the coordinator before.
    pub(super) fn arrive_late(&mut self, client: usize, life: u64, sent: &Client, request: Request, to: ReplyTo) {
        let Some(zombie) = self.zombie.take() else { return };
        let group = std::mem::replace(&mut self.group, zombie);
        let (storing, coordinator, ends) = (std::mem::take(&mut self.storing), self.coordinator, self.stores_end);
        self.coordinator -= 1;
        self.arrive_at(client, life, sent, request, to);
        // It has it stored, and will hear that it may not.
        (self.storing, self.coordinator, self.stores_end) = (storing, coordinator, ends);
        self.zombie = Some(std::mem::replace(&mut self.group, group));
    }

    /// What follows at the coordinator before.
    fn carry_out_late(&mut self, fx: Effects) {
        let (storing, coordinator, ends) = (std::mem::take(&mut self.storing), self.coordinator, self.stores_end);
        self.coordinator = self.coordinator.wrapping_sub(1);
        self.carry_out(fx);
        (self.storing, self.coordinator, self.stores_end) = (storing, coordinator, ends);
    }
}
