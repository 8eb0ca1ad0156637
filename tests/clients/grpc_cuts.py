"""The examples of gRPC clients through connections that break: nothing is lost, nothing comes twice.

Owns: a TCP proxy that cuts connections after random numbers of bytes. Does not own: the examples, and how they are run (`grpc_clients`).

Case note and failures say the seed; ESKER_KILL_SEED repeats the cuts, though not what the machine does between them.
"""
import json
import os
import random
import signal
import socket
import struct
import threading

import stock
from confluent_kafka import ConsumerGroupTopicPartitions
from grpc_clients import LANGUAGES, PARTITIONS, read, read_with_librdkafka, records, send_flights, verify, written
from harness import CLUSTER, case, check, equal, wait_until
from cluster import free_port

FLIGHTS = 40_000
BATCH = 200
CUTS = 12
CUTS_MIN = 6
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends RST


class Cutter:
    """Stands before every agent. Each connection may carry so many bytes in one of the two directions, then it ends; the last ones are left alone."""

    def __init__(self, grpc, seed, up, down, cuts=CUTS, silent=False):
        """up, down: the most bytes from the client, if any are counted, and to the client. silent: sockets stay open, and nothing comes any more."""
        self.random, self.up, self.down, self.left, self.silent = random.Random(seed), up, down, cuts, silent
        self.cuts, self.lock, self.sockets = [], threading.Lock(), []
        self.listeners = [self.listen(address) for address in grpc.split(",")]
        self.address = ",".join(f"127.0.0.1:{listener.getsockname()[1]}" for listener in self.listeners)

    def listen(self, upstream):
        listener = socket.create_server(("127.0.0.1", free_port()))
        threading.Thread(target=self.accept, args=(listener, upstream), daemon=True).start()
        return listener

    def accept(self, listener, upstream):
        host, port = upstream.rsplit(":", 1)
        while True:
            try:
                client, _ = listener.accept()
                agent = socket.create_connection((host, int(port)))
            except OSError:
                return
            with self.lock:
                self.sockets += [client, agent]
                most = {"up": None, "down": None}
                if self.left > 0:
                    self.left -= 1
                    way = self.random.choice(["up", "down"] if self.up else ["down"])
                    most[way] = int(self.random.uniform(200, self.up if way == "up" else self.down))
                how = "silence" if self.silent else self.random.choice(["reset", "end"])
            for way, source, target in (("up", client, agent), ("down", agent, client)):
                threading.Thread(target=self.carry, args=(way, source, target, most[way], how), daemon=True).start()

    def carry(self, way, source, target, left, how):
        try:
            while data := source.recv(65_536 if left is None else min(left, 65_536)):
                target.sendall(data)
                left = None if left is None else left - len(data)
                if left == 0:
                    self.cuts.append(f"{how} {way}")
                    if how == "silence":
                        return
                    if how == "reset":
                        for end in (source, target):
                            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    break
        except OSError:
            pass
        for end in (source, target):
            try:
                # Also wakes the other thread, which would keep the socket open; a reset must not be preceded by an end.
                end.shutdown(socket.SHUT_RD if how == "reset" and left == 0 else socket.SHUT_RDWR)
                end.close()
            except OSError:
                pass

    def close(self):
        for listener in [*self.listeners, *self.sockets]:
            listener.close()


def cutter(context, **options):
    seed = int(os.environ.get("ESKER_KILL_SEED", random.SystemRandom().randrange(1_000_000)))
    context.note(f"seed {seed}")
    return Cutter(context.shared().grpc, seed, **options)


def said(context, cuts, least=CUTS_MIN):
    context.note(f"{len(cuts.cuts)} cuts")
    check(len(cuts.cuts) >= least, f"only {len(cuts.cuts)} connections were cut")


def check_written(bootstrap, language, topic, acknowledged):
    found = read_with_librdkafka(bootstrap, topic)
    verify(found, f"{topic} by librdkafka", FLIGHTS)
    stored = {int(record[2][0][1]): (partition, offset) for partition, some in found.items() for offset, record in some}
    equal(acknowledged, [stored[number] for number in range(FLIGHTS)], f"{topic}: where the acks of {language.name} say that the flights are")


def add_cases(language):
    @case(grpc=True, name=f"written_by_{language.name}")
    def were_written(context):
        """Batches of which some, or some of whose acks, were on the wire when it broke: each is stored once, in order, and its acks are true."""
        topic = stock.create_topic(context.shared().bootstrap, context.topic("cut"), PARTITIONS)
        cuts = cutter(context, up=2_000_000, down=40_000)
        acknowledged = language.produce(cuts.address, topic, records()[:FLIGHTS], "--batch", BATCH)
        said(context, cuts)
        check_written(context.shared().bootstrap, language, topic, acknowledged)

    @case(grpc=True, name=f"read_by_{language.name}")
    def were_read(context):
        """A subscription of named partitions goes on where it was: every record once."""
        topic = stock.create_topic(context.shared().bootstrap, context.topic("cut"), PARTITIONS)
        send_flights(context.shared().bootstrap, topic, records()[:FLIGHTS])
        cuts = cutter(context, up=None, down=1_500_000)
        verify(language.consume(cuts.address, topic, FLIGHTS), f"{topic} by {language.name}", FLIGHTS)
        said(context, cuts)

    @case(grpc=True, name=f"read_in_a_group_by_{language.name}")
    def were_read_in_a_group(context):
        """A member that comes again and again reads every record, those that it could not commit twice, and commits the end of every partition."""
        broker = context.shared()
        topic = stock.create_topic(broker.bootstrap, context.topic("cut"), PARTITIONS)
        send_flights(broker.bootstrap, topic, records()[:FLIGHTS])
        ends = {partition: stock.watermarks(broker.bootstrap, topic, partition)[1] for partition in range(PARTITIONS)}
        cuts = cutter(context, up=2_000, down=1_500_000)
        path = context.work / "lines"
        with open(path, "wb") as out, open(context.work / "log", "wb") as log:
            member = language.popen("consume", cuts.address, "--topic", topic, "--group", topic, stdout=out, stderr=log)
            wait_until(lambda: committed(broker.bootstrap, topic) == ends, 90, f"{topic}: the ends of all partitions are committed", every=0.2)
            member.send_signal(signal.SIGTERM)
            equal(member.wait(20), 0, f"exit code of {language.name} after SIGTERM")
        said(context, cuts)
        check_group(context, path, topic)


def check_group(context, path, topic):
    places, again = {}, 0
    for line in open(path):
        fields = json.loads(line)
        found = places.setdefault(fields["partition"], {})
        again += fields["offset"] in found
        equal(found.setdefault(fields["offset"], read(fields)), read(fields), f"{topic}: {fields['partition']}@{fields['offset']} when it came again")
    verify({partition: sorted(found.items()) for partition, found in places.items()}, f"{topic} in a group", FLIGHTS)
    context.note(f"{again} records came again")


def committed(bootstrap, group):
    client = stock.admin(bootstrap)
    found = client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)], request_timeout=15)[group].result(20)
    return {p.partition: p.offset for p in found.topic_partitions}


for _language in LANGUAGES:
    add_cases(_language)


@case(grpc=True)
def silence_is_noticed(context):
    """A connection on which nothing comes any more, though it stands: keepalive ends it, the session goes on in another one, beside the old stream."""
    broker = context.shared()
    written = {}

    def write(language):
        topic = stock.create_topic(broker.bootstrap, context.topic("silent"), PARTITIONS)
        cuts = Cutter(broker.grpc, 0, up=3_000_000, down=60_000, cuts=1, silent=True)
        written[language] = topic, cuts, language.produce(cuts.address, topic, records()[:FLIGHTS], "--batch", BATCH)

    threads = [threading.Thread(target=write, args=(language,)) for language in LANGUAGES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    equal(set(written), set(LANGUAGES), "languages that have written everything")
    for language, (topic, cuts, acknowledged) in written.items():
        said(context, cuts, 1)
        check_written(broker.bootstrap, language, topic, acknowledged)


@case(needs=CLUSTER)
def sessions_outlive_their_agents(context):
    """Both write while the agents are killed with -9 and started again, one after the other: the sessions go on at the next one."""
    cluster = context.cluster()
    path = written(context.work / "flights", records()[:FLIGHTS])
    running = {}
    for language in LANGUAGES:
        topic = stock.create_topic(cluster.bootstrap, context.topic("killed"), PARTITIONS)
        acks, log = context.work / f"{language.name}.acks", context.work / f"{language.name}.log"
        with open(acks, "wb") as out, open(log, "wb") as err:
            running[language] = topic, acks, log, language.popen("produce", cluster.grpc, "--topic", topic, "--batch", 20, path, stdout=out, stderr=err)
    for agent in cluster.agents:
        sizes = {acks: acks.stat().st_size for _, acks, _, _ in running.values()}
        wait_until(lambda: all(acks.stat().st_size > size for acks, size in sizes.items()), 60, f"both write before {agent.name} is killed")
        agent.kill()
        agent.start()
    for language, (topic, acks, log, process) in running.items():
        equal(process.wait(120), 0, f"exit code of {language.name}, which says {log.read_text()[-1500:]}")
        check_written(cluster.bootstrap, language, topic, [(place["partition"], place["offset"]) for place in map(json.loads, open(acks))])
        moves = log.read_text().count("going on at")
        context.note(f"{language.name} moved {moves} times")
        check(moves > 0, f"{language.name} was never at an agent that was killed")
