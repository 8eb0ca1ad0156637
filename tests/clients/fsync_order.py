"""strace shows the order behind an acknowledgement: the segment is safe, then its directory, then the metadata, and only then the answer leaves.

Owns: tracing a running broker. Does not own: the verdict (`syscalls`).
"""
import os
import signal
import time

import stock
import syscalls
import wire
from harness import case, check, equal, wait_until

REQUESTS = 5


@case(own_broker=True)
def file_directory_metadata_answer(context):
    """Every one of five acks=all requests, one after the other, over a running broker."""
    broker = context.broker()
    topic = stock.create_topic(broker.bootstrap, "order")
    trace = context.work / "trace"
    with wire.Connection(broker.bootstrap) as connection:
        wait_until(lambda: connection.produce_one(topic, wire.batch(b"warm"))[0] == 0, 10, "the topic takes records")
        data_dir = str(broker.data_dir.resolve())
        old_files = {os.path.join(d, f) for d, _, files in os.walk(data_dir) for f in files}
        tracer = stock.popen(["strace", "-f", "-yy", "-ttt", "-T", "-s", "300", "-e", f"trace={syscalls.TRACED}", "-o", str(trace), "-p", str(broker.pid)],
                             stderr=open(context.work / "strace.err", "w"))
        wait_until(lambda: "attached" in (context.work / "strace.err").read_text(), 10, "strace attaches")
        windows = []
        for n in range(REQUESTS):
            began = time.time()
            equal(connection.produce_one(topic, wire.batch(b"traced %d" % n)), (0, n + 1), f"request {n}")
            windows.append((began, time.time()))
        port = connection.socket.getsockname()[1]
    tracer.send_signal(signal.SIGINT)
    tracer.wait(10)
    calls = syscalls.parse(open(trace, errors="replace"))
    orders = []
    for began, ended in windows:
        inside = [c for c in calls if began <= c.began <= ended]
        check(inside, "nothing was traced during a request")
        if not syscalls.disturbed(inside, data_dir, old_files):
            orders.append(syscalls.judge(inside, data_dir, old_files, f"127.0.0.1:{port}]"))
    check(len(orders) >= REQUESTS // 2, f"upkeep was at work during {REQUESTS - len(orders)} of {REQUESTS} requests")
    context.note(f"{len(orders)} judged, the last: {orders[-1]}")
