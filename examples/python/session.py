"""An idempotent producer: batches are stored once and in order, however often the connection breaks."""
import collections
import queue

import grpc

from esker.v1 import producer_pb2, producer_pb2_grpc

# The most that the agents take: so many batches the cluster recognises when they come again.
UNACKED_MAX = 5

Request = producer_pb2.ProduceStreamRequest


class Refused(Exception):
    """A batch was refused; `stored` says what of it, and of those after it, is stored nevertheless."""

    def __init__(self, error, stored):
        super().__init__(error.details())
        self.error, self.stored = error, stored


class Session:
    """Writes to one topic."""

    def __init__(self, agents, topic):
        self.agents, self.topic = agents, topic
        # What has to be kept to go on after the stream broke.
        self.session, self.next_sequences = None, {}
        self.unacked, self.number = collections.deque(), 0

    def produce(self, batches):
        """Takes lists of records; yields (records, ack) for each of them, in order. It takes no more of them than agents keep up with.

        An ack is waited for when five batches are on their way, or when there are no more: a source that pauses holds back the last acks.
        """
        batches = iter(batches)
        while True:
            try:
                yield from self._stream(batches)
                return
            except grpc.RpcError as error:
                self.agents.move_on(error)

    def _stream(self, batches):
        # What is put here is sent; None ends our side.
        requests = queue.SimpleQueue()
        stub = producer_pb2_grpc.ProducerStub(self.agents.channel)
        answers = stub.ProduceStream(iter(requests.get, None), metadata=self.agents.metadata)
        try:
            # A session that goes on: what was acknowledged is said here, what was not is sent again as it was.
            requests.put(Request(open=Request.Open(topic=self.topic, session=self.session, next_sequences=self.next_sequences)))
            self.session = next(answers).opened.session
            for batch in self.unacked:
                requests.put(Request(batch=batch))
            while True:
                while len(self.unacked) < UNACKED_MAX and (records := next(batches, None)) is not None:
                    batch = Request.Batch(number=self.number, records=records)
                    self.number += 1
                    self.unacked.append(batch)
                    requests.put(Request(batch=batch))
                if not self.unacked:
                    return
                yield self._acknowledged(answers)
        finally:
            requests.put(None)

    def _acknowledged(self, answers):
        answer = next(answers)
        if answer.HasField("refused"):
            try:
                next(answers)
            except grpc.RpcError as error:
                raise Refused(error, answer.refused.stored) from None
        ack = answer.ack
        batch = self.unacked.popleft()
        assert batch.number == ack.number, "acks come in the order of the batches"
        self.next_sequences |= ack.next_sequences
        self.agents.helped()
        return batch.records, ack
