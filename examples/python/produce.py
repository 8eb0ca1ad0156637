#!/usr/bin/env python3
"""Writes records, lines of JSON, to a topic: each once and in order, also when connections break or agents go.

Writes a line for each record, {"partition": …, "offset": …}, when it is stored for good.
"""
import itertools
import sys

import grpc

from agents import Agents, arguments, explain, log
from lines import record
from session import Refused, Session


def main():
    parser = arguments(__doc__)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--batch", type=int, default=1000, metavar="RECORDS", help="records of a batch (%(default)s)")
    parser.add_argument("file", nargs="?", type=open, default=sys.stdin, help="standard input if it is not said")
    options = parser.parse_args()
    agents = Agents(options.agents, options.client_id)
    records = map(record, options.file)
    batches = iter(lambda: list(itertools.islice(records, options.batch)), [])
    stored = 0
    try:
        for _, ack in Session(agents, options.topic).produce(batches):
            sys.stdout.writelines(f'{{"partition": {p}, "offset": {o}}}\n' for p, o in zip(ack.partitions, ack.offsets))
            stored += len(ack.offsets)
    except Refused as refused:
        # Not what was acknowledged above, but of the batch that was refused and of those after it.
        for batch in refused.stored:
            log.error("stored of batch %d: %s", batch.number, [f"{p}@{o}" for p, o in zip(batch.partitions, batch.offsets) if o >= 0])
        sys.exit(explain(refused.error))
    except grpc.RpcError as error:
        sys.exit(explain(error))
    finally:
        agents.close()
    log.info("stored %d records", stored)


if __name__ == "__main__":
    main()
