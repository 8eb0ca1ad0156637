"""Why Esker answers differently: the reasons that differential cases may give, as docs/compatibility.md tells them.

Owns: the reasons. Does not own: where they hold (`differs=` of the steps), what is compared (`differential`).
"""

REASONS = {
    # Groups
    "share-groups": "share groups are not served: a key of theirs has no coordinator",
    "refused-join-leaves-no-group": "Kafka keeps an empty group of a JoinGroup that it refused, until it tidies up; here none comes of it",
    "equal-votes": "of protocols with as many votes the first by name is taken; in Kafka the order of a hash table decides",
    "protocol-offered-twice": "a protocol that a member names twice counts once; Kafka never chooses it",
    "unreadable-subscription": "Kafka's coordinator breaks on some subscriptions that it cannot read and never answers; here the group goes on",
    "who-waited-is-named": "a JoinGroup that waits and is refused names the member id that it was sent with; Kafka names the one given to it when it is fenced, none when its member goes",
    "unused-id-goes": "an id that was given out and is given back unused changes nothing; Kafka begins a rebalance",
    "last-member-goes": "the group is empty when its last member goes; Kafka waits on for an id that was given out and not used",
    "latest-client": "a member is described with the client id and address of its latest JoinGroup, in Kafka with those of its first",
    "commit-without-group": "a member that commits to a group that is gone gets ILLEGAL_GENERATION in every version, so that it joins again; Kafka says GROUP_ID_NOT_FOUND since version 9",
    "topics-as-asked": "topics of commits and deletions are answered as they were asked; Kafka joins those named twice and leaves out those without partitions",
    "negative-leader-epoch": "a committed leader epoch below 0 is none and comes back as -1; Kafka keeps it",
    "group-goes-with-its-offsets": "a group that has neither members nor offsets any more is gone at once; Kafka keeps it until it tidies up",
    "unused-id-with-an-instance": "an id that was given to a dynamic member is refused from a static one with UNKNOWN_MEMBER_ID; Kafka fails over it",
    "repeated-request": "the first of two JoinGroups of one member that both wait gets REBALANCE_IN_PROGRESS; Kafka never answers it",
    "not-served": "groups of KIP-848, share groups and Streams groups are not served: their requests close the connection",
}
