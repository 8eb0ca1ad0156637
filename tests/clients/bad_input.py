"""Frames and connections that no sane client sends: an error in Kafka's terms or a closed connection, bounded memory, others undisturbed.

Every case runs beside a bystander (see `bystander`). Apache Kafka 4.3 (see `judge`) behaves alike, but for memory: it allocates what a frame promises.
"""
import contextlib
import random
import select
import socket
import struct
import time

import stock
import wire
from bystander import MIB, undisturbed
from harness import Failed, case, check, equal, wait_until

CLOSE_SECONDS_MAX = 20.0  # a disk that is busy with something else may hold up a commit for seconds
REQUEST_BYTES_MAX = 104_857_600
ELSEWHERE = "127.0.0.2"  # where misbehaviour comes from, so that limits per address do not hit the bystander
SETTINGS = {"esker_cache_bytes": "32MiB"}


def outcome(connection, seconds=CLOSE_SECONDS_MAX, what="a broken request"):
    """What the broker does next on a connection: the frame it sends, or None when it closes. Neither in time fails the case."""
    connection.socket.settimeout(seconds)
    try:
        return connection.receive_frame()
    except wire.Closed:
        return None
    except TimeoutError:
        raise Failed(f"{what}: neither an answer nor the end of the connection within {seconds:.0f} s") from None


def expect_close(connection, what):
    frame = outcome(connection)
    check(frame is None, f"{what}: answered with {frame and frame[:60].hex()} instead of closing the connection")


def send(connection, data):
    """Sends what the broker will take; it may close in the middle."""
    with contextlib.suppress(wire.Closed):
        connection.send_raw(data)


def templates(topic):
    """(name, api, version, body) of correct requests."""
    return [
        ("metadata", wire.METADATA, 4, wire.array([wire.string(topic)]) + b"\1"),
        ("produce", wire.PRODUCE, 8, wire.produce_body({topic: {0: wire.batch(b"template", key=b"k")}})),
        ("fetch", wire.FETCH, 11, wire.fetch_body(topic, {0: 0})),
        ("list offsets", wire.LIST_OFFSETS, 5, struct.pack(">ib", -1, 0) + wire.array([wire.string(topic) + wire.array([struct.pack(">iiq", 0, -1, -1)])])),
        ("create topics", wire.CREATE_TOPICS, 4, wire.array([wire.string(topic) + struct.pack(">ih", 1, 1) + wire.array([]) + wire.array([])])
         + struct.pack(">i?", 1000, True)),
        ("init producer id", wire.INIT_PRODUCER_ID, 1, wire.nullable_string(None) + struct.pack(">i", 60_000)),
        ("api versions", wire.API_VERSIONS, 3, b"\5name\4ver\0"),
        ("find coordinator", 10, 2, wire.string("group") + b"\0"),
        ("join group", 11, 5, wire.string("group") + struct.pack(">ii", 6000, 6000) + wire.string("") + wire.nullable_string(None) + wire.string("consumer")
         + wire.array([wire.string("range") + struct.pack(">i", 4) + b"meta"])),
        ("offset commit", 8, 7, wire.string("group") + struct.pack(">i", -1) + wire.string("") + wire.nullable_string(None)
         + wire.array([wire.string(topic) + wire.array([struct.pack(">iqi", 0, 0, -1) + wire.nullable_string("m")])])),
        ("offset fetch", 9, 5, wire.string("group") + wire.array([wire.string(topic) + wire.array([struct.pack(">i", 0)])])),
    ]


def encoded(template):
    _, api, version, body = template
    return wire.request(api, version, 1, body, flexible=api == wire.API_VERSIONS)


def new_topic(context, partitions=1):
    bootstrap = context.shared(**SETTINGS).bootstrap
    topic = stock.create_topic(bootstrap, context.topic("bad"), partitions)
    with wire.Connection(bootstrap) as connection:
        wait_until(lambda: connection.produce_one(topic, wire.batch(b"first"))[0] == 0, 10, "the topic takes records")
        for partition in range(partitions):
            wait_until(lambda: connection.list_offset(topic, -1, partition)[0] == 0, 10, "the partitions answer")
    return bootstrap, topic


@case(own_broker=True)
def truncated_frames(context):
    """Every request cut off at every byte, by the end of the connection and by a length prefix that is too short. Nothing is stored."""
    bootstrap, topic = new_topic(context)
    with undisturbed(context, context.shared(**SETTINGS)):
        for template in templates(topic):
            payload = encoded(template)
            for cut in range(len(payload)):
                with wire.Connection(bootstrap, source=ELSEWHERE) as connection:
                    connection.send_raw(wire.framed(payload)[:4 + cut])
                    connection.socket.shutdown(socket.SHUT_WR)
                    expect_close(connection, f"{template[0]} cut off after {cut} bytes")
            for cut in range(8, len(payload)):
                with wire.Connection(bootstrap, source=ELSEWHERE) as connection:
                    connection.send_raw(wire.framed(payload[:cut]))
                    if template[0] != "api versions":  # an older request may be a prefix of its body
                        check_refusal(outcome(connection), template, f"shortened to {cut} bytes")
    with wire.Connection(bootstrap) as connection:
        equal(connection.list_offset(topic, -1)[2], 1, f"end of {topic}: a truncated request was stored")


def check_refusal(frame, template, what):
    """A request that does not parse: the connection ends, or (find coordinator and the like) an error comes. Never a success of a produce."""
    if frame is not None and template[0] == "produce":
        answers = wire.read_produce_response(wire.Reader(frame[4:]))
        check(all(code != 0 for code, _ in answers.values()), f"produce {what} was accepted: {answers}")


@case(own_broker=True)
def wrong_lengths(context):
    """Length prefixes that cannot be, and other protocols on this port."""
    bootstrap, _ = new_topic(context)
    with undisturbed(context, context.shared(**SETTINGS)):
        for length in [-1, -2, -2**31, 0, 1, 3, 7, REQUEST_BYTES_MAX + 1, 2**31 - 1]:
            with wire.Connection(bootstrap, source=ELSEWHERE) as connection:
                send(connection, struct.pack(">i", length) + bytes(max(0, min(length, 8))))
                expect_close(connection, f"length prefix {length}")
        for greeting in [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32), b"SSH-2.0-OpenSSH_9\r\n"]:
            with wire.Connection(bootstrap, source=ELSEWHERE) as connection:
                send(connection, greeting)
                expect_close(connection, f"greeting {greeting[:12]!r}")


@case(own_broker=True)
def promised_frames_cost_nothing(context):
    """300 connections announce 100 MiB each and send a little: nothing is allocated for what has not arrived."""
    bootstrap, _ = new_topic(context)
    with undisturbed(context, context.shared(**SETTINGS), growth_max=64 * MIB), contextlib.ExitStack() as stack:
        for _ in range(300):
            connection = stack.enter_context(wire.Connection(bootstrap, source=ELSEWHERE))
            connection.send_raw(struct.pack(">ihhi", REQUEST_BYTES_MAX, wire.PRODUCE, 8, 1) + bytes(1000))
        time.sleep(5)  # the time in which memory is watched


@case(own_broker=True)
def stalled_large_frames(context):
    """Eight connections send 60 MiB of a 100 MiB request each and then nothing: memory stays bounded and others go on."""
    bootstrap, _ = new_topic(context)
    with undisturbed(context, context.shared(**SETTINGS)), contextlib.ExitStack() as stack:
        left = {stack.enter_context(wire.Connection(bootstrap, source=ELSEWHERE)).socket: 60 * MIB for _ in range(8)}
        for sock in left:
            sock.sendall(struct.pack(">ihhi", REQUEST_BYTES_MAX, wire.PRODUCE, 8, 1))
            sock.setblocking(False)
        deadline, chunk = time.monotonic() + 6, bytes(MIB)
        while left and time.monotonic() < deadline:
            for sock in select.select([], list(left), [], 0.1)[1]:
                try:
                    left[sock] -= sock.send(chunk)
                except OSError:  # closed by the broker: fine
                    left[sock] = 0
            left = {sock: todo for sock, todo in left.items() if todo > 0}
        time.sleep(5)  # the stall


@case(own_broker=True)
def unknown_apis_and_versions(context):
    """Kafka closes the connection; nothing may hang or be answered with a success."""
    bootstrap, topic = new_topic(context)
    with undisturbed(context, context.shared(**SETTINGS)):
        for api, version in [(99, 0), (-1, 0), (32767, 0), (-32768, -1), (52, 0), (62, 0), (wire.METADATA, 99), (wire.METADATA, -1), (wire.FETCH, 3),
                             (wire.FETCH, 99), (wire.PRODUCE, 99), (wire.PRODUCE, -1), (wire.LIST_OFFSETS, 0), (11, 99), (22, 99)]:
            with wire.Connection(bootstrap, source=ELSEWHERE) as connection:
                connection.send_raw(wire.framed(wire.request(api, version, 1, bytes(30))))
                expect_close(connection, f"api {api} version {version}")
        for version in [0, 1, 2]:  # advertised (trap 1), and refused
            with wire.Connection(bootstrap, source=ELSEWHERE) as connection:
                equal(connection.api_versions()[1][wire.PRODUCE][0], 0, "lowest version of Produce that is advertised")
                body = struct.pack(">hi", -1, 1000) + wire.array([wire.string(topic) + wire.array([struct.pack(">ii", 0, 34) + wire.old_message(b"", 0)[:34]])])
                connection.send_raw(wire.framed(wire.request(wire.PRODUCE, version, 2, body)))
                expect_close(connection, f"produce version {version}")
    with wire.Connection(bootstrap) as connection:
        equal(connection.list_offset(topic, -1)[2], 1, "end of the topic")


@case(own_broker=True)
def unknown_api_versions_version(context):
    """ApiVersions 99: a version 0 body with error 35 and the one key 18, whatever the rest of the request is; the connection stays."""
    bootstrap, _ = new_topic(context)
    with undisturbed(context, context.shared(**SETTINGS)), wire.Connection(bootstrap, source=ELSEWHERE) as connection:
        _, advertised = connection.api_versions()
        for version, garbage in [(99, b""), (99, bytes(100)), (5, b"\xff" * 40), (32767, b"\x7f" * 9)]:
            reader = connection.call(wire.API_VERSIONS, version, garbage, flexible=True)
            error, ranges = reader.unpack("h"), reader.array(lambda: reader.unpack("hhh"))
            equal(error, wire.UNSUPPORTED_VERSION, f"error of ApiVersions {version}")
            equal(ranges, [(wire.API_VERSIONS, *advertised[wire.API_VERSIONS])], "keys in the answer")
            equal(reader.at, len(reader.data), "length of the answer")
        equal(connection.api_versions(), (0, advertised), "ApiVersions 0 on the same connection")


# Bytes of a fetch body that may make it wait as long as the client says: max wait and min bytes.
FETCH_WAIT = range(4, 12)


@case(own_broker=True)
def mutated_requests(context):
    """Every 4 bytes and every 2 bytes of every request replaced by lengths that lie: an answer or the end of the connection, in time."""
    bootstrap, topic = new_topic(context)
    count = 0
    with undisturbed(context, context.shared(**SETTINGS)):
        for template in templates(topic):
            payload = encoded(template)
            body_at = len(payload) - len(template[3])
            for at in range(8, len(payload) - 1):
                if template[0] == "fetch" and set(range(at - body_at, at - body_at + 4)) & set(FETCH_WAIT):
                    continue
                for evil in (b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\x80\0\0\0", b"\xff\xff\xff\xfe", b"\x7f\xff", b"\xff\xfe"):
                    mutant = payload[:at] + evil + payload[at + len(evil):]
                    if len(mutant) != len(payload):
                        continue
                    with wire.Connection(bootstrap, source=ELSEWHERE) as connection:
                        connection.send_raw(wire.framed(mutant))
                        connection.socket.shutdown(socket.SHUT_WR)
                        outcome(connection, what=f"{template[0]} with {evil.hex()} at {at}")
                    count += 1
    context.note(f"{count} mutants")


@case(own_broker=True)
def random_bytes(context):
    """Seeded noise: bare, and behind a correct length prefix and a known api key and version."""
    bootstrap, _ = new_topic(context)
    dice = random.Random(7)
    keys = [(0, 9), (0, 13), (1, 12), (1, 18), (2, 7), (3, 12), (8, 8), (9, 8), (10, 4), (11, 6), (12, 4), (14, 5), (18, 3), (19, 7), (20, 6), (21, 2), (22, 4)]
    with undisturbed(context, context.shared(**SETTINGS)):
        for n in range(2_000):
            noise = dice.randbytes(dice.randrange(1, 300))
            api, version = dice.choice(keys)
            data = noise if n % 10 == 0 else wire.framed(wire.request(api, version, 1, noise, flexible=True))
            with wire.Connection(bootstrap, source=ELSEWHERE) as connection:
                send(connection, data)
                with contextlib.suppress(OSError):
                    connection.socket.shutdown(socket.SHUT_WR)
                outcome(connection, 35 if api == 1 else CLOSE_SECONDS_MAX)


@case(own_broker=True)
def slow_senders(context):
    """A hundred clients that send a byte now and then hold nobody up, and are served once their request is complete."""
    bootstrap, topic = new_topic(context)
    frame = wire.framed(wire.request(wire.METADATA, 4, 1, wire.array([wire.string(topic)]) + b"\1"))
    with undisturbed(context, context.shared(**SETTINGS)), contextlib.ExitStack() as stack:
        slow = [stack.enter_context(wire.Connection(bootstrap, source=ELSEWHERE)) for _ in range(100)]
        for byte in frame:
            for connection in slow:
                connection.send_raw(bytes([byte]))
            time.sleep(0.03)  # what makes them slow
        for connection in slow:
            connection.correlation = 1
            connection.response()


@case(own_broker=True)
def readers_that_do_not_read(context):
    """Thirty clients ask for 32 MiB each and take nothing: answers do not pile up in memory."""
    bootstrap, topic = new_topic(context)
    values = [random.Random(n).randbytes(900_000) for n in range(36)]
    stock.send(stock.producer(bootstrap), topic, [(None, v) for v in values])
    body = wire.fetch_body(topic, {0: 0}, max_bytes=2**31 - 1, partition_max_bytes=2**31 - 1)
    with undisturbed(context, context.shared(**SETTINGS)), contextlib.ExitStack() as stack:
        for _ in range(30):
            connection = stack.enter_context(wire.Connection(bootstrap, source=ELSEWHERE))
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            for n in range(4):
                connection.send_raw(wire.framed(wire.request(wire.FETCH, 11, n, body)))
        time.sleep(5)  # the time in which memory is watched
    equal([m.value() for m in stock.read(bootstrap, topic, start=1)], values, "what the topic holds")


@case(own_broker=True)
def ten_thousand_idle_connections(context):
    """10,000 connections that have said hello and now do nothing."""
    broker = context.broker(max_connections=11_000, max_connections_per_ip=6_000, **SETTINGS)
    hello = wire.framed(wire.request(wire.API_VERSIONS, 0, 1, b""))
    with undisturbed(context, broker), contextlib.ExitStack() as stack:
        idle = []
        for n in range(10_000):
            connection = stack.enter_context(wire.Connection(broker.bootstrap, source=f"127.0.0.{2 + n % 2}"))
            connection.send_raw(hello)
            idle.append(connection)
        for n, connection in enumerate(idle):
            check(outcome(connection) is not None, f"connection {n} was closed")
        for connection in random.Random(3).sample(idle, 50):
            equal(connection.api_versions()[0], 0, "error of a connection that was idle")


@case(own_broker=True)
def connections_per_address_are_limited(context):
    """The connections above max.connections.per.ip are closed; those below stay, and other addresses do not notice."""
    broker = context.broker(max_connections_per_ip=40)
    with undisturbed(context, broker), contextlib.ExitStack() as stack:
        alive = 0
        for _ in range(60):
            try:
                connection = stack.enter_context(wire.Connection(broker.bootstrap, source=ELSEWHERE))
                alive += connection.api_versions()[0] == 0
            except (wire.Closed, ConnectionError):
                pass
        equal(alive, 40, "connections of one address that are served")
