#!/usr/bin/env python3
"""Reads a topic and writes its records as lines of JSON, until it is interrupted.

As a member of a group it shares the partitions with all other members, be they gRPC or Kafka clients, and commits what it has written.
"""
import signal
import sys

import grpc

from agents import Agents, arguments, explain
from lines import line
from subscription import Subscription


def main():
    parser = arguments(__doc__)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--group", help="read what this group has not yet read; without it everything is read, and nothing committed")
    parser.add_argument("--count", type=int, metavar="RECORDS", help="end after so many")
    options = parser.parse_args()
    agents = Agents(options.agents, options.client_id)
    # Ended in whatever way, the connection is closed: then the group gives the partitions to others at once.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        read(Subscription(agents, options.topic, options.group), options.count)
    except KeyboardInterrupt:
        pass
    except grpc.RpcError as error:
        sys.exit(explain(error))
    finally:
        agents.close()


def read(subscription, left):
    for found in subscription.records():
        records, next_offset = found.records, found.next_offset
        if left is not None:
            if left < len(records):
                records, next_offset = records[:left], records[left].offset
            left -= len(records)
        sys.stdout.writelines(line(found.topic, found.partition, record) + "\n" for record in records)
        sys.stdout.flush()
        if subscription.group is not None:
            subscription.commit(found.partition, next_offset)
        if left == 0:
            return


if __name__ == "__main__":
    main()
