"""Random walks: the members of a group do what comes to mind, on Esker and on a real Kafka.

A walk is a seed. After each step the group must look the same on both brokers, and an answer that comes from one of them must come from the
other, too. What is known to be different (`differences`) is not walked into: nobody leaves while somebody has an id and has not used it, or
while somebody waits for an assignment. Of three members the leader stays: who leads after it is a matter of chance in Kafka.

Owns: the walks. Does not own: the requests (`raw_groups`), how brokers are compared (`differential`).
"""
import random
import time

from differential import scenario
from raw_groups import Group, assigned, commit, fetch, protocols, topics

STEPS = 40
HELD_SECONDS = 0.03   # for so long neither broker has answered: the request is held
LATE_SECONDS = 2.0    # for so long only one has
WAIT_SECONDS = 60
OPERATIONS = ["join"] * 5 + ["sync"] * 4 + ["heartbeat"] * 2 + ["leave", "commit", "forget", "restart", "delete"]


class Walker:
    """A member without a plan."""

    def __init__(self, label, version, instance):
        self.label, self.version, self.instance = label, version, instance
        self.id, self.old, self.generation, self.protocol = "", "", 0, "range"
        self.unused = False  # it was given the id, and has not joined with it
        self.held, self.asked = None, None
        self.lives = 0

    @property
    def client(self):
        """Who comes back under an instance id is described as who was there before; everybody else as themselves."""
        return self.instance or f"{self.label}.{self.lives}"


class Walk:
    """Some members, one group, one topic."""

    def __init__(self, both, seed, count):
        self.both, self.random = both, random.Random(seed)
        self.group, self.topic = Group(both, f"walk{seed}"), topics(both, f"walk{seed}")[0]
        choose = self.random.choice
        self.members = [Walker("first", choose((3, 5, 9)), None), Walker("second", choose((5, 9)), choose((None, "i1")))]
        if seed % 3 == 0:
            self.members[0] = Walker("first", choose((5, 9)), "i1")
        if count == 3:
            self.members.append(Walker("third", choose((5, 9)), choose((None, "i1", "i2"))))
        self.leader = None

    def go(self):
        for _ in range(STEPS):
            getattr(self, self.random.choice(OPERATIONS))(self.random.choice(self.members))
            self.take_answers()
            self.group.describe()
            if self.both.failures:
                return
        fetch(self.group, self.topic, 8)
        self.end()

    def join(self, member):
        if member.held:
            return
        choose = self.random.choice
        offers, data = choose((("range",), ("range",), ("range", "a"), ("a", "range"))), choose((b"m", b"m", b"x"))
        body = {"groupId": self.group.id, "sessionTimeoutMs": 60_000, "rebalanceTimeoutMs": 60_000, "memberId": member.id,
                "groupInstanceId": member.instance, "protocolType": "consumer", "protocols": protocols(*offers, data=data)}
        self.hold(member, "JOIN_GROUP", member.version, body, ("memberId",) if member.id != "" or member.instance else ())

    def sync(self, member):
        if member.held:
            return
        all_of_them = [(one.id, one.label.encode()) for one in self.members if one.id != ""]
        body = {"groupId": self.group.id, "memberId": member.id, "generationId": member.generation, "groupInstanceId": member.instance,
                "protocolType": "consumer", "protocolName": member.protocol, "assignments": assigned(*all_of_them[self.random.randrange(5) == 0:])}
        self.hold(member, "SYNC_GROUP", 5, body, ())

    def hold(self, member, api, version, body, ignore):
        member.asked = api
        member.held = self.both.start(api, version, body, connection=member.label, client=member.client, ignore=ignore, wait=WAIT_SECONDS)

    def heartbeat(self, member):
        self.group.heartbeat(self.random.choice((member.id, member.id, member.old)), member.generation, instance=member.instance)

    def commit(self, member):
        commit(self.group, self.topic, 8, self.random.choice((member.id, member.old)), self.random.choice((member.generation, -1)), instance=member.instance)

    def leave(self, member):
        leads = len(self.members) > 2 and (member.instance is not None or member.id != "" and member.id.kafka == self.leader)
        if not leads and not any(one.unused or one.held and one.asked == "SYNC_GROUP" for one in self.members):
            named = {"memberId": member.id, "groupInstanceId": member.instance}
            self.group.leave(self.random.choice((named, named | {"groupInstanceId": None}, named | {"memberId": ""})))

    def delete(self, _):
        self.both.call("DELETE_GROUPS", 2, {"groupsNames": [self.group.id]})

    def forget(self, member):
        """Its process ended; the next one begins without an id."""
        if not member.held and not member.unused:
            member.old, member.id = member.id, ""
            member.lives += 1

    def restart(self, member):
        if member.instance is not None and not member.held:
            self.forget(member)
            self.join(member)

    def take_answers(self):
        for member in self.members:
            if member.held and self.has_answers(member.held):
                answer, member.held = member.held.answer(), None
                self.learn(member, answer)

    @staticmethod
    def has_answers(held):
        """False while both brokers hold a request. Where one does not, what it says will be compared with silence."""
        began = time.monotonic()
        while held.answers() < 2:
            if time.monotonic() - began > (LATE_SECONDS if held.answers() else HELD_SECONDS):
                return held.answers() > 0
            time.sleep(0.002)
        return True

    def learn(self, member, answer):
        if self.both.failures or member.asked != "JOIN_GROUP":
            return
        code = answer.at("errorCode").kafka
        if code in ("NONE", "MEMBER_ID_REQUIRED"):
            member.id, member.unused = answer.at("memberId"), code != "NONE"
        elif code == "UNKNOWN_MEMBER_ID":
            member.old, member.id, member.unused = member.id, "", False
        if code == "NONE":
            self.leader = answer.at("leader").kafka
            member.generation, member.protocol = answer.at("generationId"), answer.at("protocolName")

    def end(self):
        """Whoever waits is sent away: by a rebalance those who wait for assignments, by leaving those who wait for members."""
        comes = Walker("last", 5, "i9")
        self.members.append(comes)
        self.join(comes)
        self.take_answers()
        ids = self.group.describe().map(lambda answer: [{"memberId": member["memberId"]} for member in answer["groups"][0]["members"]])
        self.group.call("LEAVE_GROUP", 5, {"members": ids}, ignore=["members[*"])
        for member in self.members:
            if member.held:
                member.held.answer()


def walks(both, seeds, count):
    for seed in seeds:
        Walk(both, seed, count).go()
        if both.failures:
            both.failures.append(f"in the walk of seed {seed}")
            return


@scenario
def two_members_do_what_comes_to_mind(both):
    walks(both, range(6), 2)


@scenario
def three_members_do_what_comes_to_mind(both):
    walks(both, range(10, 15), 3)
