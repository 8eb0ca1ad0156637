//! Many clients that come, go, crash, pause and come back, over a network that takes its time, and coordinators that take each
//! other's place (`takeovers`).
//!
//! Checked all the way: one leader and one list of members per generation, whoever coordinates; an assignment is delivered whole,
//! to the member it was made for, in its generation; nobody who behaves is told that it is unknown; sums and deadlines are sound;
//! what anybody was told is known to the next coordinator (GRP-2). At the end: peace within a bounded time.

mod takeovers;

use std::collections::{BTreeMap, VecDeque};

use super::*;

/// Chaos lasts so long …
const CHAOS: Duration = Duration::from_secs(120);
/// … and so long after it everybody must have an assignment of the same generation: a rebalance time-out, a
/// session, the initial delay, a few retries.
const PEACE_AFTER: Duration = Duration::from_secs(60 + 10 + 10 + 20);
const HEARTBEAT: Duration = Duration::from_secs(3);
const CLIENTS: usize = 8;

struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Nothing,
    Joining,
    Syncing,
    Reading,
}

/// A process; `life` tells its requests and answers from those of the process before it.
#[derive(Clone, Debug)]
struct Client {
    name: String,
    instance: Option<InstanceId>,
    version: i16,
    life: u64,
    doing: Doing,
    member: MemberId,
    generation: i32,
    subscription: u64,
    paused_until: Duration,
    /// It was silent for longer than its session, so it may be told that it is unknown.
    may_be_unknown: bool,
    /// Number of its latest join or sync: answers to earlier ones are of no interest.
    asked: u64,
    /// Which coordinator it talks to.
    coordinator: u64,
}

#[derive(Clone, Debug)]
enum Request {
    Join {
        number: u64,
    },
    Sync {
        number: u64,
        assignments: Vec<(MemberId, Bytes)>,
    },
    Heartbeat,
    Leave,
}

#[derive(Debug)]
enum Event {
    Arrives {
        client: usize,
        life: u64,
        as_sent: Client,
        request: Request,
    },
    Answered {
        client: usize,
        life: u64,
        number: u64,
        reply: Reply,
    },
    HeartbeatAnswered {
        client: usize,
        life: u64,
        generation: i32,
        result: Result<(), GroupError>,
    },
    Stored {
        coordinator: u64,
        ticket: Ticket,
        outcome: Result<(), GroupError>,
    },
    BeatsAgain {
        client: usize,
        life: u64,
    },
    JoinsAgain {
        client: usize,
        life: u64,
    },
    Fate {
        client: usize,
    },
    TakeOver,
    ZombieEnds {
        coordinator: u64,
    },
}

struct World {
    seed: u64,
    dice: Dice,
    now: Duration,
    group: Group,
    clients: Vec<Client>,
    events: BTreeMap<(Duration, u64), Event>,
    order: u64,
    waiting: BTreeMap<ReplyTo, (usize, u64, u64)>,
    /// Leader and members of each generation, as told to its leader.
    told: BTreeMap<i32, (MemberId, Vec<MemberId>)>,
    fresh_ids: u64,
    wakes: u64,
    /// The number of the coordinator; the next one has the next.
    coordinator: u64,
    /// What the store holds.
    durable: Option<StoredGroup>,
    /// What the coordinator is storing, in order; false if it will fail.
    storing: VecDeque<(Ticket, StoredGroup, bool)>,
    stores_end: Duration,
    /// The coordinator before, which does not know yet that it is not one any more.
    zombie: Option<Group>,
    takeovers: bool,
}

fn assignment(generation: i32, name: &str) -> String {
    // Long, so that a part of it would be noticed.
    format!("{generation}/{name}/{}", "partition,".repeat(50))
}

impl World {
    fn new(seed: u64, takeovers: bool) -> Self {
        let mut dice = Dice(seed);
        let delay = if dice.below(3) == 0 { Duration::ZERO } else { DELAY };
        let rules = Arc::new(GroupSettings {
            initial_rebalance_delay: delay,
            ..GroupSettings::default()
        });
        let clients = (0..CLIENTS).map(|n| Client {
            name: format!("client-{n}"),
            instance: (n % 3 == 0).then(|| InstanceId::from(format!("instance-{n}"))),
            version: [3, 4, 9][n % 3],
            life: 0,
            doing: Doing::Nothing,
            member: id(""),
            generation: -1,
            subscription: 0,
            paused_until: Duration::ZERO,
            may_be_unknown: false,
            asked: 0,
            coordinator: 0,
        });
        let clients = clients.collect();
        let mut world = Self {
            seed,
            dice,
            now: Duration::ZERO,
            group: Group::new(rules, Duration::ZERO),
            clients,
            events: BTreeMap::new(),
            order: 0,
            waiting: BTreeMap::new(),
            told: BTreeMap::new(),
            fresh_ids: 0,
            wakes: 0,
            coordinator: 0,
            durable: None,
            storing: VecDeque::new(),
            stores_end: Duration::ZERO,
            zombie: None,
            takeovers,
        };
        if takeovers {
            let at = world.dice.millis(1_000, 20_000);
            world.after(at, Event::TakeOver);
        }
        for client in 0..CLIENTS {
            // Half of them start at the same moment.
            let at = if client % 2 == 0 {
                Duration::ZERO
            } else {
                world.dice.millis(0, 20_000)
            };
            world.after(at, Event::JoinsAgain { client, life: 0 });
            let at = world.dice.millis(5_000, 60_000);
            world.after(at, Event::Fate { client });
        }
        world
    }

    fn after(&mut self, delay: Duration, event: Event) {
        self.order += 1;
        self.events.insert((self.now + delay, self.order), event);
    }

    fn hop(&mut self) -> Duration {
        self.dice.millis(1, 200)
    }

    fn run(mut self) {
        let end = CHAOS + PEACE_AFTER;
        loop {
            let next = self.events.first_key_value().map(|((at, _), _)| *at);
            let wake = self.group.wakes_at();
            let Some(at) = [next, wake].into_iter().flatten().min().filter(|at| *at <= end) else {
                break;
            };
            self.now = at.max(self.now);
            if wake.is_some_and(|wake| wake <= self.now) {
                self.wakes += 1;
                let fx = self.group.on_time(self.now);
                self.carry_out(fx);
                let still_due = self.group.wakes_at().is_some_and(|at| at <= self.now);
                assert!(
                    !still_due || self.group.is_forgettable(self.now),
                    "seed {}: nothing stays due",
                    self.seed
                );
                if still_due {
                    self.group = Group::new(Arc::clone(&self.group.rules), self.now);
                    (self.durable, self.zombie) = (None, None);
                    self.told.clear();
                }
            } else if let Some((_, event)) = self.events.pop_first() {
                self.happen(event);
            }
            if self.order.is_multiple_of(16) {
                self.group.roster.check_sums();
            }
        }
        self.check_peace();
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrives {
                client,
                life,
                as_sent,
                request,
            } => self.arrive(client, life, &as_sent, request),
            Event::Answered {
                client,
                life,
                number,
                reply,
            } => {
                let current = &self.clients[client];
                if current.life == life && current.asked == number {
                    self.answered(client, reply);
                }
            }
            Event::HeartbeatAnswered {
                client,
                life,
                generation,
                result,
            } => {
                let current = &self.clients[client];
                if current.life == life && current.doing == Doing::Reading && current.generation == generation {
                    self.beaten(client, result);
                }
            }
            Event::Stored {
                coordinator,
                ticket,
                outcome,
            } => self.stored(coordinator, ticket, outcome),
            Event::TakeOver => self.take_over(),
            Event::ZombieEnds { coordinator } => self.end_zombie(coordinator),
            Event::BeatsAgain { client, life } => self.beat(client, life),
            Event::JoinsAgain { client, life } => {
                if self.clients[client].life == life {
                    self.ask_to_join(client);
                }
            }
            Event::Fate { client } => self.strike(client),
        }
    }

    // What a client does.

    fn send(&mut self, client: usize, request: Request) {
        let as_sent = self.clients[client].clone();
        // A paused process sends when it wakes up.
        let delay = as_sent.paused_until.saturating_sub(self.now) + self.hop();
        self.after(
            delay,
            Event::Arrives {
                client,
                life: as_sent.life,
                as_sent,
                request,
            },
        );
    }

    fn ask_to_join(&mut self, client: usize) {
        let asking = &mut self.clients[client];
        asking.doing = Doing::Joining;
        asking.asked += 1;
        let number = asking.asked;
        self.send(client, Request::Join { number });
    }

    fn beat(&mut self, client: usize, life: u64) {
        let current = &self.clients[client];
        if current.life != life {
            return;
        }
        if matches!(current.doing, Doing::Reading) {
            self.send(client, Request::Heartbeat);
        }
        self.after(HEARTBEAT, Event::BeatsAgain { client, life });
    }

    fn forget_membership(&mut self, client: usize) {
        let current = &mut self.clients[client];
        (current.member, current.generation, current.may_be_unknown) = (id(""), -1, false);
    }

    fn refused(&mut self, client: usize, error: &GroupError) {
        let life = self.clients[client].life;
        match error {
            GroupError::MemberIdRequired { assigned } => self.clients[client].member = assigned.clone(),
            GroupError::UnknownMember => {
                let current = &self.clients[client];
                // Ids that were given out and not used are known to nobody but the coordinator that gave them out.
                let of_another = self.takeovers && current.generation == -1;
                let innocent = !current.may_be_unknown && !of_another;
                assert!(
                    !innocent,
                    "seed {}: {:?} behaves but is unknown",
                    self.seed, self.clients[client]
                );
                self.forget_membership(client);
            }
            GroupError::FencedInstance => {
                // A request of the process before it came late. An operator starts it again.
                self.forget_membership(client);
                self.clients[client].life += 1;
                self.clients[client].doing = Doing::Nothing;
                let life = self.clients[client].life;
                self.after(seconds(1), Event::JoinsAgain { client, life });
                return;
            }
            GroupError::IllegalGeneration { .. }
            | GroupError::RebalanceInProgress
            | GroupError::Unavailable
            | GroupError::NotCoordinator
            | GroupError::Overloaded { .. } => {}
            other => panic!("seed {}: unexpected {other}", self.seed),
        }
        let back_off = self.dice.millis(1, 100);
        self.clients[client].doing = Doing::Joining;
        self.after(back_off, Event::JoinsAgain { client, life });
    }

    fn answered(&mut self, client: usize, reply: Reply) {
        match reply {
            Reply::Join(Err(error)) | Reply::Sync(Err(error)) => self.refused(client, &error),
            Reply::Join(Ok(joined)) => self.has_joined(client, joined),
            Reply::Sync(Ok(synced)) => {
                let current = &mut self.clients[client];
                let expected = assignment(current.generation, &current.name);
                assert_eq!(
                    synced.assignment,
                    expected.as_bytes(),
                    "seed {}: {}",
                    self.seed,
                    current.name
                );
                current.doing = Doing::Reading;
                let life = current.life;
                self.after(HEARTBEAT, Event::BeatsAgain { client, life });
            }
        }
    }

    fn has_joined(&mut self, client: usize, joined: Joined) {
        let generation = joined.generation.0;
        let current = &mut self.clients[client];
        current.member = joined.member.clone();
        current.generation = generation;
        current.doing = Doing::Syncing;
        current.may_be_unknown = false;
        current.asked += 1;
        let number = current.asked;
        let mut assignments = Vec::new();
        if !joined.members.is_empty() && !joined.skip_assignment {
            assert_eq!(
                joined.leader.as_ref(),
                Some(&joined.member),
                "only the leader sees the members"
            );
            let members: Vec<MemberId> = joined.members.iter().map(|seen| seen.member.clone()).collect();
            assert!(members.is_sorted_by(|a, b| a < b), "seed {}: a member twice", self.seed);
            let leadership = (joined.member.clone(), members);
            let before = self.told.entry(generation).or_insert_with(|| leadership.clone());
            assert_eq!(
                *before, leadership,
                "seed {}: generation {generation} has two leaders or lists",
                self.seed
            );
            for seen in &joined.members {
                let name = String::from_utf8(seen.metadata.to_vec()).expect("a name");
                let name = name.split('@').next().expect("a name");
                assignments.push((seen.member.clone(), Bytes::from(assignment(generation, name))));
            }
        }
        self.send(client, Request::Sync { number, assignments });
    }

    fn beaten(&mut self, client: usize, result: Result<(), GroupError>) {
        if result == Err(GroupError::NotCoordinator) {
            // It looks for the coordinator and goes on.
            return;
        }
        if let Err(error) = result {
            self.refused(client, &error);
        }
    }

    // What happens at the coordinator.

    fn arrive(&mut self, client: usize, life: u64, sent: &Client, request: Request) {
        self.order += 1;
        let to = ReplyTo(self.order);
        if self.zombie.is_some() && self.clients[client].coordinator + 1 == self.coordinator {
            return self.arrive_late(client, life, sent, request, to);
        }
        self.clients[client].coordinator = self.coordinator;
        self.arrive_at(client, life, sent, request, to);
    }

    /// A request arrives at the coordinator.
    fn arrive_at(&mut self, client: usize, life: u64, sent: &Client, request: Request, to: ReplyTo) {
        match request {
            Request::Join { number } => {
                self.waiting.insert(to, (client, life, number));
                self.fresh_ids += 1;
                let metadata = format!("{}@{}", sent.name, sent.subscription);
                let command = JoinCommand {
                    member: sent.member.clone(),
                    instance: sent.instance.clone(),
                    fresh_id: MemberId::from(format!("{}-{}", sent.name, self.fresh_ids)),
                    protocols: vec![Protocol {
                        name: ProtocolName::from("range"),
                        metadata: Bytes::from(metadata),
                    }],
                    ..who("x").version(sent.version).command(to)
                };
                let fx = self.group.join(self.now, command);
                self.carry_out(fx);
            }
            Request::Sync { number, assignments } => {
                self.waiting.insert(to, (client, life, number));
                let command = SyncCommand {
                    member: sent.member.clone(),
                    instance: sent.instance.clone(),
                    generation: Generation(sent.generation),
                    protocol_type: None,
                    protocol: None,
                    assignments,
                    reply_to: to,
                };
                let fx = self.group.sync(self.now, command);
                self.carry_out(fx);
            }
            Request::Heartbeat => {
                let generation = Generation(sent.generation);
                let result = self
                    .group
                    .heartbeat(self.now, &sent.member, sent.instance.as_ref(), generation);
                let hop = self.hop();
                self.after(
                    hop,
                    Event::HeartbeatAnswered {
                        client,
                        life,
                        generation: sent.generation,
                        result,
                    },
                );
            }
            Request::Leave => {
                let leaver = Leaver {
                    member: sent.member.clone(),
                    instance: sent.instance.clone(),
                };
                let (_, fx) = self.group.leave(self.now, &[leaver]);
                self.carry_out(fx);
            }
        }
    }

    fn carry_out(&mut self, fx: Effects) {
        for (to, reply) in fx.replies {
            let (client, life, number) = self.waiting.remove(&to).expect("every request is answered once");
            let hop = self.hop();
            self.after(
                hop,
                Event::Answered {
                    client,
                    life,
                    number,
                    reply,
                },
            );
        }
        for store in fx.stores {
            let fails = self.now < CHAOS && self.dice.below(20) == 0;
            self.store(store, !fails);
        }
    }

    // What befalls a client.

    fn strike(&mut self, client: usize) {
        if self.now >= CHAOS {
            return;
        }
        let again = self.dice.millis(2_000, 30_000);
        self.after(again, Event::Fate { client });
        let doing = self.clients[client].doing;
        match self.dice.below(6) {
            // It crashes, and is started again sooner or later.
            0 | 1 => self.restart(client),
            // It goes politely.
            2 if doing == Doing::Reading => {
                self.send(client, Request::Leave);
                self.restart(client);
            }
            // It reads something else from now on.
            3 if doing == Doing::Reading => {
                self.clients[client].subscription += 1;
                self.ask_to_join(client);
            }
            // It stops for longer than its session.
            4 if doing == Doing::Reading => {
                let pause = self.dice.millis(11_000, 40_000);
                self.clients[client].paused_until = self.now + pause;
                self.clients[client].may_be_unknown = true;
            }
            // It does not trust its connection and asks again.
            5 if doing == Doing::Joining && !self.clients[client].member.is_empty() => self.ask_to_join(client),
            _ => {}
        }
    }

    fn restart(&mut self, client: usize) {
        self.forget_membership(client);
        let current = &mut self.clients[client];
        current.life += 1;
        current.doing = Doing::Nothing;
        current.paused_until = Duration::ZERO;
        let life = current.life;
        let down = self.dice.millis(300, 15_000);
        self.after(down, Event::JoinsAgain { client, life });
    }

    fn check_peace(&self) {
        let seed = self.seed;
        assert_eq!(self.group.state(), State::Stable, "seed {seed}");
        assert!(self.waiting.is_empty(), "seed {seed}: somebody still waits");
        assert_eq!(
            self.group.len(),
            CLIENTS,
            "seed {seed}: nobody is missing, nobody is left over"
        );
        for client in &self.clients {
            assert_eq!(client.doing, Doing::Reading, "seed {seed}: {client:?}");
            assert_eq!(
                Generation(client.generation),
                self.group.generation(),
                "seed {seed}: {client:?}"
            );
        }
        // A busy loop over deadlines would be thousands.
        assert!(self.wakes < 2_000, "seed {seed}: woke {} times", self.wakes);
    }
}

#[test]
fn peace_returns_whatever_members_do() {
    for seed in 0..200 {
        World::new(seed, false).run();
    }
}

#[test]
fn peace_returns_whatever_members_and_coordinators_do() {
    for seed in 0..300 {
        World::new(seed, true).run();
    }
}
