"""A Kafka client in a few hundred lines that can also say the wrong thing: frames, a few old request versions, record batches.

Owns: bytes. Does not own: what is sent to whom. Versions are chosen for being simple (not flexible): ApiVersions 0, Metadata 4,
Produce 8, Fetch 11, ListOffsets 5, CreateTopics 4, InitProducerId 1, DeleteRecords 1, ApiVersions 3 where a flexible one is needed.
"""
import dataclasses
import socket
import struct
import time
import zlib

PRODUCE, FETCH, LIST_OFFSETS, METADATA, API_VERSIONS, CREATE_TOPICS, DELETE_RECORDS, INIT_PRODUCER_ID = 0, 1, 2, 3, 18, 19, 21, 22

NONE, OFFSET_OUT_OF_RANGE, CORRUPT_MESSAGE, UNKNOWN_TOPIC_OR_PARTITION = 0, 1, 2, 3
LEADER_NOT_AVAILABLE, NOT_LEADER, REQUEST_TIMED_OUT = 5, 6, 7
COORDINATOR_LOADING, COORDINATOR_NOT_AVAILABLE = 14, 15
MESSAGE_TOO_LARGE, INVALID_TOPIC, UNSUPPORTED_VERSION, STORAGE_ERROR = 10, 17, 35, 56
UNKNOWN_PRODUCER_ID, UNSUPPORTED_COMPRESSION_TYPE, INVALID_RECORD = 59, 76, 87
UNKNOWN_SERVER_ERROR = -1


class Closed(Exception):
    """The broker closed the connection."""


# --- primitives ---------------------------------------------------------------------------------------------------------------

def string(text):
    data = text if isinstance(text, bytes) else text.encode()
    return struct.pack(">h", len(data)) + data


def nullable_string(text):
    return struct.pack(">h", -1) if text is None else string(text)


def array(items):
    return struct.pack(">i", len(items)) + b"".join(items)


def uvarint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def varint(value):
    return uvarint((value << 1) ^ (value >> 63))


def compact_string(text):
    return uvarint(len(text) + 1) + text.encode()


def _crc32c_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_CRC32C = _crc32c_table()


def crc32c(data, crc=0):
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc = _CRC32C[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


class Reader:
    """Reads one response body; running past its end is an error."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if count < 0 or self.at + count > len(self.data):
            raise ValueError(f"response too short: {count} more bytes at {self.at} of {len(self.data)}")
        self.at += count
        return self.data[self.at - count:self.at]

    def unpack(self, layout):
        values = struct.unpack(">" + layout, self.take(struct.calcsize(">" + layout)))
        return values[0] if len(values) == 1 else values

    def string(self):
        length = self.unpack("h")
        return None if length < 0 else self.take(length).decode()

    def bytes(self):
        length = self.unpack("i")
        return b"" if length < 0 else self.take(length)

    def array(self, element):
        return [element() for _ in range(max(0, self.unpack("i")))]


# --- records ------------------------------------------------------------------------------------------------------------------

def record(offset_delta, key, value, headers=(), timestamp_delta=0, header_count=None):
    def blob(data):
        return varint(-1) if data is None else varint(len(data)) + data
    body = b"\0" + varint(timestamp_delta) + varint(offset_delta) + blob(key) + blob(value)
    body += varint(len(headers) if header_count is None else header_count)
    for name, data in headers:
        body += varint(len(name)) + name + blob(data)
    return varint(len(body)) + body


def now_ms():
    """Records of long ago would fall to retention."""
    return int(time.time() * 1000)


@dataclasses.dataclass
class Batch:
    """A version 2 record batch. Every header field can be set to a lie; None means the truth."""
    records: list
    attributes: int = 0
    producer_id: int = -1
    producer_epoch: int = -1
    base_sequence: int = -1
    base_timestamp: int = None
    base_offset: int = 0
    magic: int = 2
    count: int = None
    last_offset_delta: int = None
    length: int = None
    crc: int = None

    def encode(self):
        count = len(self.records) if self.count is None else self.count
        last = len(self.records) - 1 if self.last_offset_delta is None else self.last_offset_delta
        stamp = now_ms() if self.base_timestamp is None else self.base_timestamp
        tail = struct.pack(">hiqqqhii", self.attributes, last, stamp, stamp, self.producer_id,
                           self.producer_epoch, self.base_sequence, count) + b"".join(self.records)
        crc = crc32c(tail) if self.crc is None else self.crc
        length = 9 + len(tail) if self.length is None else self.length
        return struct.pack(">qiibI", self.base_offset, length, -1, self.magic, crc) + tail


def batch(*values, key=None, **fields):
    """A correct batch of the given values (bytes), unless fields say otherwise."""
    return Batch([record(n, key, value) for n, value in enumerate(values)], **fields).encode()


def old_message(value, magic, key=None):
    """One message of a version 0 or 1 message set."""
    def blob(data):
        return struct.pack(">i", -1) if data is None else struct.pack(">i", len(data)) + data
    body = struct.pack(">bb", magic, 0) + (struct.pack(">q", now_ms()) if magic == 1 else b"") + blob(key) + blob(value)
    message = struct.pack(">I", zlib.crc32(body)) + body
    return struct.pack(">qi", 0, len(message)) + message


def decode_batches(data):
    """Whole batches at the start of data, uncompressed ones with their records: [(base offset, last offset, [(offset, key, value)])]."""
    out, at = [], 0
    while at + 12 <= len(data):
        base, length = struct.unpack_from(">qi", data, at)
        if at + 12 + length > len(data):
            break
        attributes, last = struct.unpack_from(">hi", data, at + 21)
        count = struct.unpack_from(">i", data, at + 57)[0]
        if crc32c(data[at + 21:at + 12 + length]) != struct.unpack_from(">I", data, at + 17)[0]:
            raise ValueError(f"batch at offset {base}: CRC does not match")
        out.append((base, base + last, _records(data[at + 61:at + 12 + length], base, count) if attributes & 7 == 0 else None))
        at += 12 + length
    return out


def _records(data, base, count):
    at = 0

    def read_varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value >> 1 ^ -(value & 1)

    def blob():
        nonlocal at
        length = read_varint()
        if length < 0:
            return None
        at += length
        return bytes(data[at - length:at])

    records = []
    for _ in range(count):
        end = read_varint()
        end += at
        at += 1
        read_varint()
        delta = read_varint()
        key, value = blob(), blob()
        records.append((base + delta, key, value))
        at = end
    return records


# --- requests -----------------------------------------------------------------------------------------------------------------

def request(api, version, correlation, body, client="wire", flexible=False):
    """A request without its length prefix."""
    return struct.pack(">hhi", api, version, correlation) + nullable_string(client) + (b"\0" if flexible else b"") + body


def framed(payload):
    return struct.pack(">i", len(payload)) + payload


def produce_body(batches, acks=-1, timeout_ms=10_000, transactional_id=None):
    """Produce 3 to 8. batches: {topic: {partition: bytes}}."""
    topics = [string(topic) + array([struct.pack(">ii", p, len(data)) + data for p, data in partitions.items()])
              for topic, partitions in batches.items()]
    return nullable_string(transactional_id) + struct.pack(">hi", acks, timeout_ms) + array(topics)


def fetch_body(topic, offsets, max_wait_ms=0, min_bytes=0, max_bytes=50 << 20, partition_max_bytes=50 << 20, isolation=0):
    """Fetch 11. offsets: {partition: offset}."""
    partitions = [struct.pack(">iiqqi", p, -1, o, -1, partition_max_bytes) for p, o in offsets.items()]
    return struct.pack(">iiiibii", -1, max_wait_ms, min_bytes, max_bytes, isolation, 0, -1) + array([string(topic) + array(partitions)]) \
        + array([]) + string("")


class Connection:
    """One blocking connection. call() sends a request and returns the Reader of the body of its response."""

    def __init__(self, bootstrap, timeout=15.0, source=None):
        host, port = bootstrap.split(",")[0].rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout, source_address=(source, 0) if source else None)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.correlation = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send_raw(self, data):
        try:
            self.socket.sendall(data)
        except (ConnectionError, BrokenPipeError) as error:
            raise Closed(str(error)) from None

    def receive_frame(self):
        size = struct.unpack(">i", self._receive(4))[0]
        return self._receive(size)

    def _receive(self, count):
        chunks = bytearray()
        while len(chunks) < count:
            try:
                chunk = self.socket.recv(min(1 << 20, count - len(chunks)))
            except ConnectionError as error:
                raise Closed(str(error)) from None
            if not chunk:
                raise Closed(f"end of stream after {len(chunks)} of {count} bytes")
            chunks += chunk
        return bytes(chunks)

    def call(self, api, version, body, flexible=False, flexible_response=False):
        self.correlation += 1
        self.send_raw(framed(request(api, version, self.correlation, body, flexible=flexible)))
        return self.response(flexible_response)

    def response(self, flexible=False):
        reader = Reader(self.receive_frame())
        found = reader.unpack("i")
        if found != self.correlation:
            raise ValueError(f"correlation id {found} in answer to {self.correlation}")
        if flexible:
            reader.take(1)
        return reader

    # Each of these returns plain values.

    def api_versions(self):
        reader = self.call(API_VERSIONS, 0, b"")
        error = reader.unpack("h")
        return error, {key: (low, high) for key, low, high in reader.array(lambda: reader.unpack("hhh"))}

    def metadata(self, topics, auto_create=True):
        """Metadata 4: {topic: (error, {partition: error})}."""
        found = self.metadata_with_leaders(topics, auto_create)
        return {name: (error, {index: code for index, (code, _) in partitions.items()}) for name, (error, partitions) in found.items()}

    def metadata_with_leaders(self, topics, auto_create=True):
        """Metadata 4: {topic: (error, {partition: (error, node id of the leader)})}."""
        body = struct.pack(">i", -1) if topics is None else array([string(t) for t in topics])
        reader = self.call(METADATA, 4, body + struct.pack(">?", auto_create))
        reader.unpack("i")
        reader.array(lambda: (reader.unpack("i"), reader.string(), reader.unpack("i"), reader.string()))
        reader.string()
        reader.unpack("i")

        def partition():
            error, index, leader = reader.unpack("hii")
            for _ in range(2):
                reader.array(lambda: reader.unpack("i"))
            return index, (error, leader)

        def topic():
            error, name, _ = reader.unpack("h"), reader.string(), reader.unpack("b")
            return name, (error, dict(reader.array(partition)))
        return dict(reader.array(topic))

    def create_topic(self, name, partitions=1, configs=()):
        """CreateTopics 4; returns the error code."""
        settings = array([string(k) + nullable_string(v) for k, v in configs])
        body = array([string(name) + struct.pack(">ih", partitions, 1) + array([]) + settings]) + struct.pack(">i?", 10_000, False)
        reader = self.call(CREATE_TOPICS, 4, body)
        reader.unpack("i")
        return reader.array(lambda: (reader.string(), reader.unpack("h"), reader.string()))[0][1]

    def produce(self, batches, acks=-1, version=8, timeout_ms=10_000):
        """{(topic, partition): (error, base offset)}, for Produce 5 to 8."""
        reader = self.call(PRODUCE, version, produce_body(batches, acks, timeout_ms))
        return read_produce_response(reader, version)

    def produce_one(self, topic, data, partition=0):
        return self.produce({topic: {partition: data}})[topic, partition]

    def fetch(self, topic, offsets, **options):
        """Fetch 11: {partition: (error, high watermark, last stable offset, log start offset, record bytes)}."""
        reader = self.call(FETCH, 11, fetch_body(topic, offsets, **options))
        error = reader.unpack("ihi")[1]
        if error:
            raise ValueError(f"fetch error {error}")

        def partition():
            index, code, high, stable, start = reader.unpack("ihqqq")
            reader.array(lambda: reader.unpack("qq"))
            reader.unpack("i")
            return index, (code, high, stable, start, reader.bytes())
        topics = dict(reader.array(lambda: (reader.string(), dict(reader.array(partition)))))
        return topics.get(topic, {})

    def list_offset(self, topic, timestamp, partition=0, isolation=0, version=5):
        """ListOffsets 5: (error, timestamp, offset). -1 latest, -2 earliest; -3 (max timestamp) needs version 7."""
        body = struct.pack(">ib", -1, isolation) + array([string(topic) + array([struct.pack(">iiq", partition, -1, timestamp)])])
        reader = self.call(LIST_OFFSETS, version, body)
        reader.unpack("i")
        _, values = reader.array(lambda: (reader.string(), reader.array(lambda: reader.unpack("ihqqi"))))[0]
        return values[0][1:4]

    def init_producer_id(self):
        """InitProducerId 1 without a transactional id: (error, producer id, epoch)."""
        reader = self.call(INIT_PRODUCER_ID, 1, nullable_string(None) + struct.pack(">i", 60_000))
        return reader.unpack("ihqh")[1:]


def read_produce_response(reader, version=8):
    def partition():
        index, error, base, _, _ = reader.unpack("ihqqq")
        if version >= 8:
            reader.array(lambda: (reader.unpack("i"), reader.string()))
            reader.string()
        return index, error, base
    answers = {}
    for topic, partitions in reader.array(lambda: (reader.string(), reader.array(partition))):
        for index, error, base in partitions:
            answers[topic, index] = (error, base)
    return answers
