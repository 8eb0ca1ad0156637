"""The disk part of the cache: what was read once is found there again, also after a restart and a kill -9, and damage to it hurts nobody."""
import hashlib
import re

import stock
from contract import get
from harness import case, check, equal, wait_until

RECORDS, VALUE_BYTES = 400, 100_000
# So little memory that what was read does not stay there.
SETTINGS = {"esker_cache_bytes": "4MiB", "esker_cache_disk_bytes": "256MiB", "esker_merge_age": "1s", "esker_checkpoint_interval": "1s"}


def metric(broker, name, **labels):
    wanted = "".join(rf'(?=[^}}]*{key}="{value}")' for key, value in labels.items())
    return sum(map(float, re.findall(rf"^{name}(?:\{{{wanted}[^}}]*\}})? (\S+)$", get(broker.http, "/metrics")[1], re.M)))


def read_all(broker, topic):
    """A digest of all values, in order."""
    digest, consumer = hashlib.sha256(), stock.consumer(broker.bootstrap)
    consumer.assign([stock.TopicPartition(topic, 0, 0)])
    left = RECORDS

    def more():
        nonlocal left
        for message in consumer.consume(100, 0.2):
            check(message.error() is None, f"error {message.error()}")
            digest.update(message.value())
            left -= 1
        return left == 0

    wait_until(more, 60, "all records are read")
    consumer.close()
    return digest.hexdigest()


def counts(broker):
    return {"hit": metric(broker, "esker_cache_disk_requests_total", outcome="hit"), "get": metric(broker, "esker_store_requests_total", op="get")}


@case(own_broker=True)
def blocks_outlive_memory_and_process(context):
    """Merged records are read from the bucket once, then from the disk: by the same process, after SIGTERM, after kill -9, and not if the files are damaged."""
    cache = context.work / "cache"
    broker = context.broker(**SETTINGS, esker_cache_dir=cache)
    topic = stock.create_topic(broker.bootstrap, "cold")
    values = [hashlib.sha256(b"%d" % n).digest() * (VALUE_BYTES // 32) for n in range(RECORDS)]
    stock.send(stock.producer(broker.bootstrap), topic, [(None, value) for value in values])
    expected = hashlib.sha256(b"".join(values)).hexdigest()
    wait_until(lambda: metric(broker, "esker_unmerged_entries") == 0, 60, "everything is merged")
    equal(read_all(broker, topic), expected, "what is read for the first time")
    first = counts(broker)
    equal(read_all(broker, topic), expected, "what is read again")
    again = counts(broker)
    check(again["hit"] > first["hit"], f"nothing came from the disk: {first}, {again}")
    for end in (broker.stop, broker.kill):
        end()
        broker.start()
        equal(read_all(broker, topic), expected, "what is read after a restart")
        after = counts(broker)
        check(after["hit"] > after["get"], f"after a restart most comes from the disk: {after}")
    broker.stop()
    for file in cache.glob("blocks-*/*"):
        with open(file, "r+b") as opened:
            for at in range(4_096, min(file.stat().st_size, 64 << 20), 8_192):
                opened.seek(at)
                opened.write(b"damaged!")
    broker.start()
    equal(read_all(broker, topic), expected, "what is read from a damaged cache")
    context.note(f"from the disk, of {RECORDS * VALUE_BYTES >> 20} MiB read: {again['hit'] - first['hit']:.0f} blocks while running, {after['hit']:.0f} after kill -9")
    broker.stop()
