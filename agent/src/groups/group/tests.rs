//! Scenarios of one group, and the small stage they play on: a clock that is moved by hand, and replies to look at.

mod commit;
mod join;
mod limits;
mod rebalance;
mod simulation;
mod statics;
mod store;
mod sync;

use std::collections::BTreeMap;

use super::*;

pub(super) const SESSION: Duration = Duration::from_secs(10);
pub(super) const REBALANCE: Duration = Duration::from_secs(60);
pub(super) const DELAY: Duration = Duration::from_secs(3);

pub(super) fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(super) fn id(text: &str) -> MemberId {
    MemberId::from(text)
}

/// A member that joins: by default a new dynamic member of an old client, whose fresh id is its name.
#[derive(Clone)]
pub(super) struct Who {
    name: &'static str,
    member: &'static str,
    instance: Option<&'static str>,
    protocol_type: &'static str,
    protocols: Vec<(&'static str, &'static str)>,
    version: i16,
    timeouts: Timeouts,
}

pub(super) fn who(name: &'static str) -> Who {
    Who {
        name,
        member: "",
        instance: None,
        protocol_type: "consumer",
        protocols: vec![("range", "topics")],
        version: 3,
        timeouts: Timeouts {
            session: SESSION,
            rebalance: REBALANCE,
        },
    }
}

impl Who {
    pub(super) fn again(mut self) -> Self {
        self.member = self.name;
        self
    }

    pub(super) fn instance(mut self, instance: &'static str) -> Self {
        self.instance = Some(instance);
        self
    }

    pub(super) fn protocol_type(mut self, protocol_type: &'static str) -> Self {
        self.protocol_type = protocol_type;
        self
    }

    pub(super) fn protocols(mut self, protocols: &[(&'static str, &'static str)]) -> Self {
        self.protocols = protocols.to_vec();
        self
    }

    pub(super) fn version(mut self, version: i16) -> Self {
        self.version = version;
        self
    }

    pub(super) fn timeouts(mut self, session: Duration, rebalance: Duration) -> Self {
        self.timeouts = Timeouts { session, rebalance };
        self
    }

    pub(super) fn command(&self, reply_to: ReplyTo) -> JoinCommand {
        let protocols = self.protocols.iter().map(|(name, metadata)| Protocol {
            name: ProtocolName::from(*name),
            metadata: Bytes::copy_from_slice(metadata.as_bytes()),
        });
        JoinCommand {
            member: id(self.member),
            instance: self.instance.map(InstanceId::from),
            client: Client {
                id: Arc::from(self.name),
                host: Arc::from("/127.0.0.1"),
            },
            timeouts: self.timeouts,
            protocol_type: ProtocolName::from(self.protocol_type),
            protocols: protocols.collect(),
            knows_member_id_required: self.version >= 4,
            knows_skip_assignment: self.version >= 9,
            fresh_id: id(self.name),
            reply_to,
        }
    }
}

/// A group with its clock and what it has replied so far.
pub(super) struct Stage {
    pub(super) group: Group,
    pub(super) now: Duration,
    last_reply: u64,
    replies: BTreeMap<ReplyTo, Reply>,
    /// What is to be stored; confirmed at once unless `hold_stores`.
    pub(super) stores: Vec<Store>,
    pub(super) hold_stores: bool,
}

impl Stage {
    pub(super) fn new() -> Self {
        Self::with(GroupSettings::default())
    }

    pub(super) fn with(settings: GroupSettings) -> Self {
        let settings = GroupSettings {
            initial_rebalance_delay: DELAY,
            ..settings
        };
        let group = Group::new(Arc::new(settings), Duration::ZERO);
        Self {
            group,
            now: Duration::ZERO,
            last_reply: 0,
            replies: BTreeMap::new(),
            stores: vec![],
            hold_stores: false,
        }
    }

    pub(super) fn without_delay() -> Self {
        let mut stage = Self::new();
        let settings = GroupSettings {
            initial_rebalance_delay: Duration::ZERO,
            ..GroupSettings::default()
        };
        stage.group = Group::new(Arc::new(settings), Duration::ZERO);
        stage
    }

    pub(super) fn take(&mut self, fx: Effects) {
        for (to, reply) in fx.replies {
            assert!(self.replies.insert(to, reply).is_none(), "a request is answered once");
        }
        for store in fx.stores {
            let ticket = store.ticket;
            self.stores.push(store);
            if !self.hold_stores {
                let fx = self.group.stored(self.now, ticket, Ok(()));
                self.take(fx);
            }
        }
        if self.group.wakes_at().is_some_and(|at| at <= self.now) && !self.group.is_forgettable(self.now) {
            let fx = self.group.on_time(self.now);
            self.take(fx);
        }
    }

    pub(super) fn advance(&mut self, by: Duration) {
        let until = self.now + by;
        while let Some(at) = self.group.wakes_at().filter(|at| *at <= until) {
            self.now = at.max(self.now);
            let fx = self.group.on_time(self.now);
            self.take(fx);
            if self.group.is_forgettable(self.now) {
                break;
            }
        }
        self.now = until;
    }

    fn reply_to(&mut self) -> ReplyTo {
        self.last_reply += 1;
        ReplyTo(self.last_reply)
    }

    pub(super) fn join(&mut self, who: Who) -> ReplyTo {
        let to = self.reply_to();
        let fx = self.group.join(self.now, who.command(to));
        self.take(fx);
        to
    }

    /// The answer to a join, if there is one; it is taken.
    pub(super) fn joined(&mut self, to: ReplyTo) -> Option<Result<Joined, GroupError>> {
        match self.replies.remove(&to)? {
            Reply::Join(result) => Some(result),
            Reply::Sync(_) => panic!("a join was answered as a sync"),
        }
    }

    /// Joins where an answer must come at once.
    pub(super) fn join_now(&mut self, who: Who) -> Result<Joined, GroupError> {
        let to = self.join(who);
        self.joined(to).expect("an answer at once")
    }

    pub(super) fn sync_as(
        &mut self,
        member: &str,
        generation: i32,
        assignments: &[(&str, &str)],
        change: impl FnOnce(&mut SyncCommand),
    ) -> ReplyTo {
        let to = self.reply_to();
        let assignments = assignments
            .iter()
            .map(|(id, text)| (MemberId::from(*id), Bytes::from((*text).to_owned())));
        let mut command = SyncCommand {
            member: id(member),
            instance: None,
            generation: Generation(generation),
            protocol_type: None,
            protocol: None,
            assignments: assignments.collect(),
            reply_to: to,
        };
        change(&mut command);
        let fx = self.group.sync(self.now, command);
        self.take(fx);
        to
    }

    pub(super) fn sync(&mut self, member: &str, generation: i32, assignments: &[(&str, &str)]) -> ReplyTo {
        self.sync_as(member, generation, assignments, |_| {})
    }

    pub(super) fn synced(&mut self, to: ReplyTo) -> Option<Result<String, GroupError>> {
        match self.replies.remove(&to)? {
            Reply::Sync(result) => {
                Some(result.map(|synced| String::from_utf8(synced.assignment.to_vec()).expect("text")))
            }
            Reply::Join(_) => panic!("a sync was answered as a join"),
        }
    }

    pub(super) fn heartbeat(&mut self, member: &str, generation: i32) -> Result<(), GroupError> {
        self.group
            .heartbeat(self.now, &id(member), None, Generation(generation))
    }

    pub(super) fn leave(&mut self, leavers: &[(&str, Option<&str>)]) -> Vec<Result<(), GroupError>> {
        let leavers = leavers.iter().map(|(member, instance)| Leaver {
            member: id(member),
            instance: instance.map(InstanceId::from),
        });
        let (verdicts, fx) = self.group.leave(self.now, &leavers.collect::<Vec<_>>());
        self.take(fx);
        verdicts.expect("the group is alive")
    }

    /// Lets these members form the first generation; each is assigned its own name. The first one leads.
    pub(super) fn form(&mut self, members: &[Who]) {
        let joins: Vec<ReplyTo> = members.iter().map(|member| self.join(member.clone())).collect();
        self.advance(DELAY);
        self.advance(DELAY);
        for to in joins {
            let joined = self.joined(to).expect("joined").expect("accepted");
            assert_eq!(joined.generation, Generation(1));
            assert_eq!(joined.leader, Some(id(members[0].name)));
        }
        let assignments: Vec<(&str, &str)> = members.iter().map(|member| (member.name, member.name)).collect();
        for member in members.iter().rev() {
            let leads = member.name == members[0].name;
            self.sync(member.name, 1, if leads { &assignments } else { &[] });
        }
        self.replies.clear();
        assert_eq!(self.group.state(), State::Stable);
    }

    pub(super) fn state(&self) -> State {
        self.group.state()
    }

    pub(super) fn members(&self) -> Vec<String> {
        self.group
            .describe()
            .members
            .iter()
            .map(|member| member.member.to_string())
            .collect()
    }
}
