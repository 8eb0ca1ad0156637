"""What every case needs: where things are, one JSON line per figure, a topic.

Owns: paths and the form of a figure. Does not own: any figure.
"""
import json
import pathlib
import sys

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
    """Makes a topic and waits until it is there."""
    with wire.Connection(broker.kafka, timeout=60) as connection:
        error = connection.create_topic(topic, partitions)
        if error:
            raise RuntimeError(f"topic {topic} was not made: error {error}")
