"""A consumer: records as they come, of all partitions of a topic or of those that a group gives, however often the connection breaks."""
import time

import grpc

from agents import detail, explain, log
from esker.v1 import admin_pb2, admin_pb2_grpc, consumer_pb2, consumer_pb2_grpc

Request = consumer_pb2.SubscribeRequest
COMMITS_MAX, PAUSE = 10, 0.1
# The group has given the partitions to somebody else, who gets the records again.
GONE = {"ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID", "REBALANCE_IN_PROGRESS", "FENCED_INSTANCE_ID"}


class Subscription:
    """Without a group, it reads all partitions from their first record on and keeps its positions itself."""

    def __init__(self, agents, topic, group=None):
        self.agents, self.topic, self.group = agents, topic, group
        self.positions, self.member = {}, None

    def records(self):
        """Yields Records of one partition after the other. With a group, what was not committed comes again, perhaps to somebody else."""
        while True:
            try:
                for event in consumer_pb2_grpc.ConsumerStub(self.agents.channel).Subscribe(self._request(), metadata=self.agents.metadata):
                    self.agents.helped()
                    if event.HasField("assigned"):
                        self.member = event.assigned.member
                        log.info("assigned %s as %s of generation %d", named(event.assigned), self.member.member_id, self.member.generation)
                    elif event.HasField("revoked"):
                        self.member = None
                        log.info("revoked %s", named(event.revoked))
                    else:
                        yield event.records
                        self.positions[event.records.partition] = event.records.next_offset
            except grpc.RpcError as error:
                self.member = None
                self.agents.move_on(error)

    def commit(self, partition, offset):
        """Has the group go on from this offset; says so if it could not be, because then the records before it come again."""
        member = self.member
        offsets = [consumer_pb2.CommittedOffset(topic=self.topic, partition=partition, offset=offset)]
        request = consumer_pb2.CommitRequest(group_id=self.group, member=member, offsets=offsets)
        for _ in range(COMMITS_MAX):
            try:
                answer = consumer_pb2_grpc.ConsumerStub(self.agents.channel).Commit(request, metadata=self.agents.metadata)
                failure = answer.results[0].failure if answer.results[0].HasField("failure") else None
                if failure is None:
                    return
                text, found = failure.message, failure.detail
            except grpc.RpcError as error:
                text, found = explain(error), detail(error)
            if found is None or found.kafka_name in GONE or not found.retriable:
                break
            time.sleep(PAUSE)
        log.warning("not committed: %s", text)

    def _request(self):
        if self.group is not None:
            return Request(group=Request.Group(group_id=self.group, topics=[self.topic], start=Request.START_EARLIEST))
        if not self.positions:
            answer = admin_pb2_grpc.AdminStub(self.agents.channel).DescribeTopics(
                admin_pb2.DescribeTopicsRequest(topics=[self.topic]), metadata=self.agents.metadata)
            if answer.topics[0].HasField("failure"):
                raise SystemExit(answer.topics[0].failure.message)
            self.positions = {found.partition: None for found in answer.topics[0].partitions}
        earliest = consumer_pb2.Position(edge=consumer_pb2.EDGE_EARLIEST)
        partitions = [consumer_pb2.PartitionPosition(topic=self.topic, partition=partition,
                                                     at=earliest if offset is None else consumer_pb2.Position(offset=offset))
                      for partition, offset in self.positions.items()]
        return Request(assign=Request.Assign(partitions=partitions))


def named(event):
    return " ".join(f"{topic.topic}/{partition}" for topic in event.partitions for partition in topic.partitions) or "nothing"
