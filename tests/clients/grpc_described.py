"""gRPC without stubs: what a client learns from a running agent by reflection is enough to describe and to call everything.

Owns: a client in Python that knows nothing but reflection, and grpcurl. Does not own: how agents are started.
"""
import base64
import json

import grpc
import stock
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from harness import CACHE, Failed, case, check, equal

SERVICES = ["esker.v1.Admin", "esker.v1.Consumer", "esker.v1.Producer", "grpc.health.v1.Health"]
GRPCURL = CACHE / "grpcurl" / "grpcurl"
SECONDS = 20
# Bytes that are no text, null, empty, headers that repeat, one without a value, one without a name.
AWKWARD = [
    {"key": b"\x00\xff\xfe", "value": bytes(range(256)), "headers": [("h", b"\xff"), ("h", b""), ("h", None), ("", b"x"), ("h", b"\xff")]},
    {"key": None, "value": None, "headers": []},
    {"key": b"", "value": b"", "headers": [("é", "é".encode())]},
]


class Dynamic:
    """Calls by name, requests and answers as JSON."""

    def __init__(self, address):
        self.channel = grpc.insecure_channel(address)
        self.database = ProtoReflectionDescriptorDatabase(self.channel)
        self.pool = DescriptorPool(self.database)

    def call(self, method, request):
        service, name = method.rsplit("/", 1)
        found = self.pool.FindServiceByName(service).FindMethodByName(name)
        asked, answered = (message_factory.GetMessageClass(kind) for kind in (found.input_type, found.output_type))
        call = self.channel.unary_unary(f"/{method}", asked.SerializeToString, answered.FromString)
        return json_format.MessageToDict(call(json_format.ParseDict(request, asked()), timeout=SECONDS), preserving_proto_field_name=True)


def address(context):
    return context.shared().grpc.split(",")[0]


def encoded(data):
    return base64.b64encode(data).decode()


def as_json(record):
    """A record as protobuf's JSON has it: bytes in base64, and what is null is not there."""
    fields = {name: encoded(record[name]) for name in ("key", "value") if record[name] is not None}
    headers = [{"name": name} | ({} if value is None else {"value": encoded(value)}) for name, value in record["headers"]]
    # An empty name is the default, which is left out.
    return fields | ({"headers": [{k: v for k, v in header.items() if k != "name" or v} for header in headers]} if headers else {})


def found_by(fetched):
    return [{name: value for name, value in record.items() if name in ("key", "value", "headers")} for record in fetched["records"]]


@case(grpc=True)
def a_client_without_stubs(context):
    """A client in Python that has read no .proto file: it creates a topic, writes and reads it, and librdkafka sees the same."""
    client, broker = Dynamic(address(context)), context.shared()
    services = client.database.get_services()
    equal([name for name in sorted(services) if not name.startswith("grpc.reflection.")], SERVICES, "services")
    topic, fetch = context.topic("reflected"), {"partition": 0, "from": {"offset": 0}, "max_wait_ms": 5_000}
    equal(client.call("esker.v1.Admin/CreateTopics", {"topics": [{"name": topic, "partitions": 1}]}), {"results": [{"topic": topic}]}, "CreateTopics")
    answer = client.call("esker.v1.Producer/Produce", {"topic": topic, "records": [as_json(record) for record in AWKWARD]})
    equal([answer["partitions"], answer["offsets"]], [[0, 0, 0], ["0", "1", "2"]], "Produce")
    seen = [{"key": m.key(), "value": m.value(), "headers": m.headers() or []} for m in stock.read(broker.bootstrap, topic)]
    equal(seen, AWKWARD, "what librdkafka reads")
    stock.send(stock.producer(broker.bootstrap), topic, AWKWARD)
    fetched = client.call("esker.v1.Consumer/Fetch", {"topic": topic, **fetch})
    equal(found_by(fetched), [as_json(record) for record in AWKWARD * 2], "what Fetch reads of both")
    equal([fetched["next_offset"], fetched["high_watermark"]], ["6", "6"], "next offset and high watermark")
    equal(client.call("esker.v1.Admin/DeleteTopics", {"topics": [topic]}), {"results": [{"topic": topic}]}, "DeleteTopics")


def grpcurl(address, *arguments, code=0):
    """Runs it; returns what it prints, on stderr if it has to fail."""
    done = stock.run([GRPCURL, "-plaintext", "-max-time", str(SECONDS), *arguments[:-1], address, *arguments[-1]], timeout=2 * SECONDS, ok=False)
    if done.returncode != code:
        raise Failed(f"grpcurl {arguments} exits {done.returncode}: {done.stderr[-1500:]}")
    return done.stdout.decode() if code == 0 else done.stderr


@case(grpc=True)
def grpcurl_lists_describes_and_calls(context):
    """grpcurl as one uses it by hand: what services there are, what a call takes, a topic, records, and an error with Kafka's code and advice."""
    where, topic = address(context), context.topic("grpcurl")
    services = grpcurl(where, ["list"]).split()
    equal([name for name in sorted(services) if not name.startswith("grpc.reflection.")], SERVICES, "services")
    equal(grpcurl(where, ["list", "esker.v1.Producer"]).split(), ["esker.v1.Producer.Produce", "esker.v1.Producer.ProduceStream"], "calls of Producer")
    check("rpc Fetch ( .esker.v1.FetchRequest ) returns ( .esker.v1.FetchResponse );" in grpcurl(where, ["describe", "esker.v1.Consumer"]), "Consumer described")
    check("optional bytes key = 2;" in grpcurl(where, ["describe", "esker.v1.Record"]), "Record described")
    request = {"topics": [{"name": topic, "partitions": 2, "configs": {"retention.ms": "3600000"}}]}
    equal(json.loads(grpcurl(where, "-d", json.dumps(request), ["esker.v1.Admin/CreateTopics"])), {"results": [{"topic": topic}]}, "CreateTopics")
    stock.send(stock.producer(context.shared().bootstrap), topic, [{**record, "partition": 1} for record in AWKWARD])
    request = {"topic": topic, "partition": 1, "from": {"edge": "EDGE_EARLIEST"}, "max_wait_ms": 5_000}
    fetched = json.loads(grpcurl(where, "-d", json.dumps(request), ["esker.v1.Consumer/Fetch"]))
    equal(found_by(fetched), [as_json(record) for record in AWKWARD], "Fetch")
    failed = grpcurl(where, "-d", json.dumps(request | {"partition": 7}), ["esker.v1.Consumer/Fetch"], code=64 + grpc.StatusCode.NOT_FOUND.value[0])
    for text in ("Code: NotFound", '"kafkaCode": 3', '"kafkaName": "UNKNOWN_TOPIC_OR_PARTITION"', '"whatToDo": "check the name and the partition, or create the topic"'):
        check(text in failed, f"{text} is not in: {failed}")
