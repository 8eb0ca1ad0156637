//! What the table of members makes of sessions.

use super::identity::{Announcement, Identity};
use super::{KAFKA_LISTENER, Membership};
use crate::agent::Endpoint;
use esker_metadata::keys::session::{Endpoint as NamedEndpoint, SessionInfo};
use esker_segment::id::SessionId;
use std::sync::Arc;

fn announcement() -> Announcement {
    Announcement {
        node: Some(1),
        zone: "a".to_owned(),
        kafka: Endpoint {
            host: "here".to_owned(),
            port: 1,
        },
        http: None,
        peer: None,
        process: 1,
    }
}

fn alone() -> Arc<Membership> {
    Membership::new(Identity::new(announcement()))
}

fn agent(node_id: i32, zone: &str, draining: bool) -> SessionInfo {
    SessionInfo {
        node_id,
        zone: zone.to_owned(),
        endpoints: vec![NamedEndpoint {
            listener: KAFKA_LISTENER.to_owned(),
            host: "there".to_owned(),
            port: 2,
        }],
        draining,
        ..SessionInfo::default()
    }
}

fn nodes(members: &Membership) -> Vec<i32> {
    members.view().members.iter().map(|member| member.node).collect()
}

#[test]
fn an_agent_without_a_session_still_lists_itself() {
    let members = alone();
    assert_eq!(nodes(&members), [1]);
    assert!(members.view().placement.has_zone("a"));
}

#[test]
fn sessions_come_and_go() {
    let members = alone();
    members.on_session(SessionId(2), Some(&agent(3, "b", false)));
    // Not an agent: a compactor, or one that has no node id yet.
    members.on_session(SessionId(3), Some(&SessionInfo::default()));
    members.on_session(SessionId(4), Some(&agent(-1, "b", false)));
    assert_eq!(nodes(&members), [1, 3]);
    assert_eq!(members.coordinators(), [SessionId(2)]);
    members.on_session(SessionId(2), None);
    assert_eq!(nodes(&members), [1]);
    assert!(!members.view().placement.has_zone("b"));
}

#[test]
fn who_drains_or_does_not_answer_is_listed_and_leads_nothing() {
    let members = alone();
    members.on_session(SessionId(2), Some(&agent(2, "b", true)));
    members.on_session(SessionId(3), Some(&agent(3, "c", false)));
    assert_eq!(nodes(&members), [1, 2, 3]);
    assert!(!members.view().placement.has_zone("b"));
    members.set_silent(SessionId(3), true);
    assert_eq!(nodes(&members), [1, 2, 3]);
    assert!(!members.view().placement.has_zone("c"));
    assert_eq!(members.coordinators(), []);
    members.set_silent(SessionId(3), false);
    assert!(members.view().placement.has_zone("c"));
}

#[test]
fn an_agent_that_can_do_nothing_leads_nothing_while_another_can() {
    let members = alone();
    members.identity().pretend_session(SessionId(1));
    members.on_session(SessionId(2), Some(&agent(2, "b", false)));
    let leads = || {
        let view = members.view();
        (view.placement.has_zone("a"), view.stands_aside, view.works)
    };
    assert_eq!(leads(), (true, false, true));
    members.set_no_bucket(true);
    assert_eq!(leads(), (false, true, false));
    members.set_no_bucket(false);
    assert_eq!(leads(), (true, false, true));
    members.identity().on_lost();
    members.on_identity();
    assert_eq!(leads(), (false, true, false));
    // The other one cannot either, or is gone: what is known here is served.
    members.set_silent(SessionId(2), true);
    assert_eq!(leads(), (true, false, false));
}

#[test]
fn of_two_sessions_of_one_node_the_later_counts() {
    let members = alone();
    members.on_session(SessionId(5), Some(&agent(2, "new", false)));
    members.on_session(SessionId(4), Some(&agent(2, "old", false)));
    assert_eq!(nodes(&members), [1, 2]);
    assert!(members.view().placement.has_zone("new") && !members.view().placement.has_zone("old"));
}
