//! The machines of a cluster: clients connect to any of them, as any agent serves every partition.
//!
//! Owns: how many there are, which one a client gets, what befalls one of them or all.
//! Does not own: a machine (`host`).

use std::sync::{Arc, Mutex, PoisonError};

use esker_agent::agent::Agent;
use tokio::io::DuplexStream;

use crate::dice::Dice;
use crate::host::{Host, Machine};

/// All machines.
pub(crate) struct Fleet {
    hosts: Vec<Arc<Host>>,
    dice: Mutex<Dice>,
}

impl Fleet {
    /// So many machines, none of which runs yet.
    pub(crate) fn new(machine: &Machine, machines: u32, dice: Dice) -> Arc<Self> {
        let hosts = (1..=machines).map(|number| Host::new(machine.clone(), number));
        Arc::new(Self {
            hosts: hosts.collect(),
            dice: Mutex::new(dice),
        })
    }

    /// One of them.
    pub(crate) fn any(&self, dice: &mut Dice) -> Arc<Host> {
        let nth = dice.within(0..u64::try_from(self.hosts.len()).expect("few machines"));
        Arc::clone(&self.hosts[usize::try_from(nth).expect("few machines")])
    }

    /// Starts every node.
    pub(crate) fn start(&self) {
        self.hosts.iter().for_each(Host::start);
    }

    /// Ends every node.
    pub(crate) fn crash(&self, cut: bool) {
        self.hosts.iter().for_each(|host| host.crash(cut));
    }

    /// Every node, when all are up.
    pub(crate) async fn agents(&self) -> Vec<Arc<Agent>> {
        let mut agents = Vec::new();
        for host in &self.hosts {
            agents.push(host.agent().await);
        }
        agents
    }

    /// A connection to one of the nodes that are up, or to the first that comes up of one machine.
    pub(crate) async fn connect(&self) -> DuplexStream {
        let host = {
            let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
            let first = self.any(&mut dice);
            let up = self.hosts.iter().find(|host| host.is_up());
            if first.is_up() {
                first
            } else {
                up.cloned().unwrap_or(first)
            }
        };
        host.connect().await
    }
}
