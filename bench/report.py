"""What every case needs: where things are, one JSON line per figure, a topic.

Owns: paths and the form of a figure. Does not own: any figure.
"""
import json
import pathlib
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
WORK = ROOT / "target" / "bench"
for where in (ROOT / "tests" / "compat", ROOT / "tests" / "clients", ROOT / "infra" / "local", HERE):
    if str(where) not in sys.path:
        sys.path.insert(0, str(where))

import wire  # noqa: E402


def out(case, **figures):
    print(json.dumps({"case": case, **figures}), flush=True)


def create(broker, topic, partitions):
    """Makes a topic and waits until its partitions have leaders, which takes Kafka a moment."""
    with wire.Connection(broker.kafka, timeout=60) as connection:
        error = connection.create_topic(topic, partitions)
        if error:
            raise RuntimeError(f"topic {topic} was not made: error {error}")
        deadline = time.monotonic() + 30
        while any((found := connection.metadata([topic], auto_create=False)[topic])[1].values()) or found[0] or len(found[1]) < partitions:
            if time.monotonic() > deadline:
                raise RuntimeError(f"topic {topic} has no leaders after 30 s: {found}")
            time.sleep(0.05)
