#!/usr/bin/env python3
"""Creates a topic, lists topics, or says how far a group has come, whoever its members are."""
import sys

import grpc

from agents import Agents, arguments, explain
from esker.v1 import admin_pb2, admin_pb2_grpc, consumer_pb2


def main():
    parser = arguments(__doc__)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("create")
    command.add_argument("topic")
    command.add_argument("partitions", type=int)
    command.set_defaults(function=create)
    commands.add_parser("topics").set_defaults(function=topics)
    command = commands.add_parser("lag")
    command.add_argument("group")
    command.set_defaults(function=lag)
    options = parser.parse_args()
    agents = Agents(options.agents, options.client_id)
    try:
        options.function(admin_pb2_grpc.AdminStub(agents.channel), agents.metadata, options)
    except grpc.RpcError as error:
        sys.exit(explain(error))
    finally:
        agents.close()


def create(admin, metadata, options):
    topic = admin_pb2.NewTopic(name=options.topic, partitions=options.partitions)
    answer = admin.CreateTopics(admin_pb2.CreateTopicsRequest(topics=[topic]), metadata=metadata)
    # Calls for several things answer for each of them.
    if answer.results[0].HasField("failure"):
        sys.exit(answer.results[0].failure.message)


def topics(admin, metadata, _):
    for topic in admin.ListTopics(admin_pb2.ListTopicsRequest(), metadata=metadata).topics:
        print(f"{topic.name}: {topic.partitions} partitions")


def lag(admin, metadata, options):
    committed = admin.GroupOffsets(admin_pb2.GroupOffsetsRequest(group_id=options.group), metadata=metadata).offsets
    latest = consumer_pb2.Position(edge=consumer_pb2.EDGE_LATEST)
    asked = [consumer_pb2.PartitionPosition(topic=found.topic, partition=found.partition, at=latest) for found in committed]
    ends = admin.ListOffsets(admin_pb2.ListOffsetsRequest(partitions=asked), metadata=metadata).results
    for found, end in zip(committed, ends):
        if end.HasField("failure"):
            sys.exit(end.failure.message)
        print(f"{found.topic}/{found.partition}: committed {found.offset} of {end.offset}, {end.offset - found.offset} to go")


if __name__ == "__main__":
    main()
