"""aiokafka: its administrator, an idempotent producer, consumers in a group, seeking by time, codecs.

Owns: what aiokafka is asked. It speaks old versions of most administrative requests, which nobody else does.
"""
import asyncio
import contextlib
import logging

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import InvalidPartitionsError, OffsetOutOfRangeError

from harness import check, equal

logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
NOON = 1_700_000_000_000
CODECS = [None, "gzip", "snappy", "lz4", "zstd"]


def awaited(function):
    """A case that is a coroutine, as a plain one."""
    def run(context):
        asyncio.run(asyncio.wait_for(function(context), 60))

    run.__name__ = function.__name__
    return run


@contextlib.asynccontextmanager
async def admin(context):
    client = AIOKafkaAdminClient(bootstrap_servers=context.shared().bootstrap)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def until(predicate, what, timeout=20):
    """Waits for predicate(), which may be a coroutine."""
    deadline = asyncio.get_running_loop().time() + timeout
    while True:
        value = predicate()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return
        check(asyncio.get_running_loop().time() < deadline, f"not within {timeout} s: {what}")
        await asyncio.sleep(0.02)


async def created(context, client, stem, partitions=1, **configs):
    topic = context.topic(stem)
    answer = await client.create_topics([NewTopic(topic, partitions, 1, topic_configs={k.replace("_", "."): v for k, v in configs.items()})])
    equal([(t[0], t[1]) for t in answer.topic_errors], [(topic, 0)], "creation")
    await until(lambda: has_leaders(client, topic), f"{topic} has leaders")
    return topic


async def has_leaders(client, topic):
    told = (await client.describe_topics([topic]))[0]
    return told["error_code"] == 0 and all(p["leader"] >= 0 for p in told["partitions"])


async def filled(context, topic, partitions, each):
    producer = AIOKafkaProducer(bootstrap_servers=context.shared().bootstrap)
    await producer.start()
    for partition in range(partitions):
        sent = [await producer.send(topic, b"value %d" % n, partition=partition, timestamp_ms=NOON + n * 1000) for n in range(each)]
        equal([(await future).offset for future in sent], [*range(each)], "offsets of what was sent")
    await producer.stop()


@awaited
async def topics(context):
    """Topics and partitions, and the cluster they are in."""
    async with admin(context) as client:
        topic = await created(context, client, "aio", 3, retention_ms="60000")
        check(topic in await client.list_topics(), "not listed")
        again = await client.create_topics([NewTopic(topic, 1, 1)])
        equal(again.topic_errors[0][1], 36, "TOPIC_ALREADY_EXISTS")
        only = context.topic("aio-never")
        equal((await client.create_topics([NewTopic(only, 1, 1)], validate_only=True)).topic_errors[0][1], 0, "validation")
        check(only not in await client.list_topics(), "a topic that was only to be validated is there")
        await client.create_partitions({topic: NewPartitions(5)})
        await until(lambda: partitions_are(client, topic, [0, 1, 2, 3, 4]), "five partitions")
        try:
            await client.create_partitions({topic: NewPartitions(2)})
            raise AssertionError("fewer partitions were not refused")
        except InvalidPartitionsError as error:
            check("5" in str(error), f"the text does not say how many there are: {error}")
        cluster = await client.describe_cluster()
        equal({f"{b['host']}:{b['port']}" for b in cluster["brokers"]}, set(context.shared().bootstrap.split(",")), "brokers")
        check(cluster["cluster_id"] and cluster["controller_id"] in {b["node_id"] for b in cluster["brokers"]}, cluster)
        equal([tuple(t[:2]) for t in (await client.delete_topics([topic])).topic_error_codes], [(topic, 0)], "deletion")
        await until(lambda: is_gone(client, topic), "the topic is gone")
        equal((await client.delete_topics([topic])).topic_error_codes[0][1], 3, "UNKNOWN_TOPIC_OR_PARTITION")


async def partitions_are(client, topic, expected):
    return sorted(p["partition"] for p in (await client.describe_topics([topic]))[0]["partitions"]) == expected


async def is_gone(client, topic):
    return topic not in await client.list_topics()


@awaited
async def configs(context):
    """Configs of a topic and of a broker; altering replaces all of them, as the old call does."""
    async with admin(context) as client:
        topic = await created(context, client, "aio-configs", retention_ms="60000")

        async def described(kind, name):
            answer = (await client.describe_configs([ConfigResource(kind, name)]))[0]
            equal(answer.resources[0][0], 0, "error code")
            return {found[0]: found[1] for found in answer.resources[0][4]}

        before = await described(ConfigResourceType.TOPIC, topic)
        equal((before["retention.ms"], before["cleanup.policy"]), ("60000", "delete"), "values")
        answer = await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"cleanup.policy": "compact"})])
        equal(answer[0].resources[0][0], 0, "error code")
        after = await described(ConfigResourceType.TOPIC, topic)
        equal((after["retention.ms"], after["cleanup.policy"]), ("604800000", "compact"), "values after it")
        refused = await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"cleanup.policy": "neither"})])
        equal(refused[0].resources[0][0], 40, "INVALID_CONFIG")
        node = str((await client.describe_cluster())["brokers"][0]["node_id"])
        equal((await described(ConfigResourceType.BROKER, node))["message.max.bytes"], "1048588", "message.max.bytes of a broker")


@awaited
async def groups_and_offsets(context):
    """A group with a member as the administrator sees it, and its offsets; records deleted."""
    async with admin(context) as client:
        topic, group = await created(context, client, "aio-groups", 2), context.topic("aio-group")
        await filled(context, topic, 2, 10)
        consumer = AIOKafkaConsumer(topic, bootstrap_servers=context.shared().bootstrap, group_id=group, client_id="aio-member",
                                    auto_offset_reset="earliest", enable_auto_commit=False)
        await consumer.start()
        await until(lambda: len(consumer.assignment()) == 2, "both partitions are assigned")
        zero, one = TopicPartition(topic, 0), TopicPartition(topic, 1)
        await consumer.commit({zero: (4, "why"), one: 6})
        equal((await consumer.committed(zero), await consumer.committed(one)), (4, 6), "what the consumer has committed")
        found = await client.list_consumer_group_offsets(group)
        equal({tp: (f.offset, f.metadata) for tp, f in found.items()}, {zero: (4, "why"), one: (6, "")}, "what the administrator sees")
        check((group, "consumer") in [tuple(g[:2]) for g in await client.list_consumer_groups()], "not listed")
        told = (await client.describe_consumer_groups([group]))[0].groups[0]
        equal((told[0], told[1], told[2], told[3], told[4]), (0, group, "Stable", "consumer", "roundrobin"), "the group")
        check(len(told[5]) == 1 and "aio-member" in told[5][0][1:3], f"its members: {told[5]}")
        node = await client.find_coordinator(group)
        check(node in {b["node_id"] for b in (await client.describe_cluster())["brokers"]}, f"coordinator {node}")
        equal(await client.delete_records({zero: RecordsToDelete(3)}), {zero: 3}, "records deleted")
        equal(await consumer.beginning_offsets([zero, one]), {zero: 3, one: 0}, "where the logs start")
        try:
            await client.delete_records({zero: RecordsToDelete(99)})
            raise AssertionError("an offset beyond the end was not refused")
        except OffsetOutOfRangeError:
            pass
        await consumer.stop()
        equal((await client.describe_consumer_groups([group]))[0].groups[0][2], "Empty", "the group without its member")


@awaited
async def codecs_and_seeking(context):
    """What an idempotent producer sends with each codec comes back with headers, and is found by time."""
    async with admin(context) as client:
        topic = await created(context, client, "aio-codecs")
    at, expected, headers = TopicPartition(topic, 0), [], [("a", b"1"), ("a", b"2"), ("none", None)]
    for number, codec in enumerate(CODECS):
        producer = AIOKafkaProducer(bootstrap_servers=context.shared().bootstrap, compression_type=codec, enable_idempotence=True, linger_ms=20)
        await producer.start()
        values = [f"{codec} {n} ".encode() * 40 for n in range(100)] + [None]
        sent = [await producer.send(topic, value, b"key", 0, NOON + number * 1000, headers) for value in values]
        equal([(await f).offset for f in sent], [*range(len(expected), len(expected) + len(values))], f"offsets with {codec}")
        expected += [(b"key", value, NOON + number * 1000, tuple(headers)) for value in values]
        await producer.stop()
    consumer = AIOKafkaConsumer(bootstrap_servers=context.shared().bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    consumer.assign([at])
    found = [await consumer.getone() for _ in expected]
    equal([r.offset for r in found], [*range(len(expected))], "offsets")
    equal([(r.key, r.value, r.timestamp, r.headers) for r in found], expected, "what was read")
    by_time = await consumer.offsets_for_times({at: NOON + 1500})
    equal((by_time[at].offset, by_time[at].timestamp), (202, NOON + 2000), "the offset by time")
    consumer.seek(at, by_time[at].offset)
    equal((await consumer.getone()).value, expected[202][1], "the record there")
    await consumer.seek_to_beginning(at)
    equal((await consumer.getone()).offset, 0, "the first one")
    await consumer.seek_to_end(at)
    equal((await consumer.position(at), await consumer.end_offsets([at])), (505, {at: 505}), "the end")
    await consumer.stop()


class Member:
    """A consumer of a group in a task of its own, which commits what it has read."""

    def __init__(self, context, topic, group):
        self.read = []
        self.consumer = AIOKafkaConsumer(topic, bootstrap_servers=context.shared().bootstrap, group_id=group, auto_offset_reset="earliest",
                                         enable_auto_commit=False, heartbeat_interval_ms=200, session_timeout_ms=10_000)

    async def start(self):
        await self.consumer.start()
        self.task = asyncio.create_task(self.work())
        return self

    async def work(self):
        while True:
            batches = await self.consumer.getmany(timeout_ms=100)
            self.read += [(r.partition, r.offset) for batch in batches.values() for r in batch]
            if batches:
                await self.consumer.commit()

    async def stop(self):
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task
        await self.consumer.stop()

    def assigned(self):
        return {tp.partition for tp in self.consumer.assignment()}


@awaited
async def group_of_two(context):
    """A second member takes half of the partitions and, when the first has left, the rest; every record is read."""
    async with admin(context) as client:
        topic, group = await created(context, client, "aio-two", 4), context.topic("aio-group")
        await filled(context, topic, 4, 25)
        first = await Member(context, topic, group).start()
        await until(lambda: len(first.read) == 100, "the first member has read everything")
        second = await Member(context, topic, group).start()
        await until(lambda: len(first.assigned()) == len(second.assigned()) == 2 and first.assigned() | second.assigned() == {0, 1, 2, 3}, "two partitions each")
        producer = AIOKafkaProducer(bootstrap_servers=context.shared().bootstrap)
        await producer.start()
        for n in range(40):
            await producer.send_and_wait(topic, b"later", partition=n % 4)
        await until(lambda: len(first.read) + len(second.read) == 140, "both have read the rest")
        equal(len(second.read), 20, "records of the second member")
        await first.stop()
        await until(lambda: len(second.assigned()) == 4, "the second member has all partitions")
        await producer.send_and_wait(topic, b"last", partition=first.read[-1][0])
        await until(lambda: len(second.read) == 21, "the second member has read the last record")
        await second.stop()
        await producer.stop()
        equal(len(set(first.read + second.read)), 141, "different records")
        equal(sum(f.offset for f in (await client.list_consumer_group_offsets(group)).values()), 141, "committed offsets")


CASES = [topics, configs, groups_and_offsets, codecs_and_seeking, group_of_two]
