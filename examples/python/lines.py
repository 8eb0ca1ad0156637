"""Records as lines of JSON: what the examples read and write.

    {"key": "N14228", "value": "…", "headers": [["origin", "EWR"], ["gate", null]], "timestamp": 1357034400000}

A producer takes `partition`, too; what a consumer writes has `topic`, `partition` and `offset`. null is null, which is something
else than empty. Bytes that are not UTF-8 are escaped as Python does (surrogateescape).
"""
import json

from esker.v1 import records_pb2


def record(line):
    """A record to be written."""
    fields = json.loads(line)
    headers = [records_pb2.Header(name=name, value=to_bytes(value)) for name, value in fields.get("headers", ())]
    return records_pb2.Record(partition=fields.get("partition"), key=to_bytes(fields.get("key")), value=to_bytes(fields.get("value")), headers=headers,
                              timestamp_ms=fields.get("timestamp"))


def line(topic, partition, record):
    """A record that was read."""
    headers = [[header.name, to_text(header.value) if header.HasField("value") else None] for header in record.headers]
    fields = {"topic": topic, "partition": partition, "offset": record.offset, "timestamp": record.timestamp_ms,
              "key": to_text(record.key) if record.HasField("key") else None,
              "value": to_text(record.value) if record.HasField("value") else None, "headers": headers}
    return json.dumps(fields, ensure_ascii=False)


def to_bytes(text):
    return None if text is None else text.encode(errors="surrogateescape")


def to_text(data):
    return data.decode(errors="surrogateescape")
