"""Connections to agents, and what their errors say.

Any agent serves everything, so when one is gone the next one in the list is asked.
"""
import argparse
import logging
import time

import grpc
from grpc_status import rpc_status

from esker.v1 import records_pb2

OPTIONS = [
    # Fetch and Subscribe return a record however large it is; the library's own limit is 4 MiB.
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    # An agent that is cut off is noticed within 15 seconds.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
]
FAILURES_MAX = 40
PAUSE_FIRST, PAUSE_MAX = 0.05, 2.0

log = logging.getLogger("esker")


class Agents:
    """A connection to one agent at a time."""

    def __init__(self, addresses, client_id):
        self.addresses, self.at, self.failures, self._channel = addresses.split(","), 0, 0, None
        # What the client calls itself, in group descriptions for instance; `zone=a` in it says where it is.
        self.metadata = (("client-id", client_id),)

    @property
    def channel(self):
        if self._channel is None:
            self._channel = grpc.insecure_channel(self.addresses[self.at], OPTIONS)
        return self._channel

    def move_on(self, error):
        """Connects to the next agent after an error that passes; raises any other, and when no agent has helped for a minute."""
        self.failures += 1
        if not passes(error) or self.failures > FAILURES_MAX:
            raise error
        self.close()
        self.at = (self.at + 1) % len(self.addresses)
        log.warning("%s: %s; going on at %s", error.code().name, error.details(), self.addresses[self.at])
        time.sleep(min(PAUSE_FIRST * 2 ** min(self.failures - 1, 10), PAUSE_MAX))

    def helped(self):
        """An agent has done what it was asked."""
        self.failures = 0

    def close(self):
        if self._channel is not None:
            self._channel.close()
            self._channel = None


def detail(error):
    """What the agent says of an error beside its message: Kafka's code, whether it passes, what to do. None if there is no such thing."""
    status = rpc_status.from_call(error)
    for packed in status.details if status is not None else ():
        found = records_pb2.ErrorDetail()
        if packed.Unpack(found):
            return found
    return None


def passes(error):
    """Whether the same call may succeed later, or at another agent."""
    found = detail(error)
    if found is None:
        return error.code() == grpc.StatusCode.UNAVAILABLE
    # To Kafka clients a topic that does not exist is one that may come yet.
    return found.retriable and error.code() != grpc.StatusCode.NOT_FOUND


def explain(error):
    """An error as somebody wants to read it."""
    found = detail(error)
    kafka = f" (Kafka's {found.kafka_code}, {found.kafka_name}; {'passes' if found.retriable else 'stays'})" if found is not None else ""
    return f"{error.code().name}{kafka}: {error.details()}"


def arguments(about):
    """What all the examples are told on the command line."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", default="127.0.0.1:9095", metavar="HOST:PORT,…", help="gRPC addresses of agents (%(default)s)")
    parser.add_argument("--client-id", default="python", metavar="NAME")
    return parser
