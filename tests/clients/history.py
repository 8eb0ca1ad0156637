#!/usr/bin/env python3
"""The history checker: what clients sent, were told and read goes in as JSON lines, verdicts come out.

usage: history.py FILE        prints one JSON line per verdict and a summary; exit code 1 when there is a verdict

Events, one object a line, in the order in which the client saw them (`p` is "topic/partition", `o` an offset, `v` the value as a string):

    {"e": "producer", "id": P, "idempotent": bool, "ordered": bool}   before P's first send; ordered: one request in flight, or idempotent
    {"e": "send", "id": P, "v": V}           V is unique in the whole history; the order of P's sends is the order it promises
    {"e": "ack", "id": P, "v": V, "p": TP, "o": O}                    p and o are null when the client is not told
    {"e": "refused", "id": P, "v": V}        the broker said: not written. Any other failure needs no event: the record may be there or not
    {"e": "seek", "r": R, "p": TP, "o": O}   reader R continues at O (always its first event for TP)
    {"e": "read", "r": R, "p": TP, "o": O, "v": V}
    {"e": "end", "p": TP, "o": O}            the broker named O as the high watermark
    {"e": "complete", "r": R, "p": TP, "o": O}  R read everything below O, the end of TP

Verdicts: lost (acknowledged, not in the complete log), wrong_offset (acknowledged at another offset than it is read at), duplicate (from an
idempotent producer), reordered (within one producer and partition), went_back and skipped (a reader's offsets), rewritten (two values at one
offset), invented (never sent), refused_but_stored, end_went_back, unread (a partition with acknowledged records that nobody read to its end).

Owns: the verdicts. Does not own: how histories are recorded. Knows no broker.
"""
import collections
import json
import sys


class Checker:
    """Feed events in order with add(); then finish() gives the verdicts and counts() the totals."""

    def __init__(self):
        self.verdicts = []
        self.totals = collections.Counter()
        self.producers = {}  # id -> {"idempotent", "ordered"}
        self.sends = {}  # value -> (producer id, number of the send)
        self.sent = collections.Counter()
        self.acks = {}  # value -> (partition or None, offset or None)
        self.refused = set()
        self.log = collections.defaultdict(dict)  # partition -> offset -> value, whoever read it
        self.readers = {}  # (reader, partition) -> next offset
        self.ends = {}  # partition -> highest high watermark seen
        self.complete = {}  # partition -> end

    def add(self, event):
        self.totals[event["e"]] += 1
        getattr(self, "on_" + event["e"])(event)

    def blame(self, kind, **facts):
        self.verdicts.append({"verdict": kind, **facts})

    def on_producer(self, event):
        self.producers[event["id"]] = {"idempotent": event["idempotent"], "ordered": event["ordered"]}

    def on_send(self, event):
        producer, value = event["id"], event["v"]
        if value in self.sends or producer not in self.producers:
            raise ValueError(f"not a history: {event}")
        self.sends[value] = (producer, self.sent[producer])
        self.sent[producer] += 1

    def on_ack(self, event):
        if event["v"] not in self.sends:
            raise ValueError(f"not a history: {event}")
        self.acks[event["v"]] = (event["p"], event["o"])

    def on_refused(self, event):
        self.refused.add(event["v"])

    def on_seek(self, event):
        self.readers[event["r"], event["p"]] = event["o"]

    def on_read(self, event):
        reader, partition, offset, value = event["r"], event["p"], event["o"], event["v"]
        expected = self.readers[reader, partition]
        if offset < expected:
            self.blame("went_back", reader=reader, partition=partition, expected=expected, found=offset)
        elif offset > expected:
            self.blame("skipped", reader=reader, partition=partition, expected=expected, found=offset)
        self.readers[reader, partition] = offset + 1
        known = self.log[partition].setdefault(offset, value)
        if known != value:
            self.blame("rewritten", partition=partition, offset=offset, first=known, then=value, reader=reader)

    def on_end(self, event):
        partition, offset = event["p"], event["o"]
        highest = self.ends.setdefault(partition, offset)
        if offset < highest:
            self.blame("end_went_back", partition=partition, highest=highest, found=offset)
        self.ends[partition] = max(highest, offset)

    def on_complete(self, event):
        partition, reader, end = event["p"], event["r"], event["o"]
        at = self.readers.get((reader, partition), 0)
        if at < end:
            self.blame("skipped", reader=reader, partition=partition, expected=at, found=end)
        if end < self.ends.get(partition, 0):
            self.blame("end_went_back", partition=partition, highest=self.ends[partition], found=end)
        self.complete[partition] = end

    def finish(self):
        places = self.check_log()
        self.check_acks(places)
        return self.verdicts

    def check_log(self):
        """Duplicates, order and refused records; returns where each value lies: value -> [(partition, offset)]."""
        places = collections.defaultdict(list)
        for partition, log in sorted(self.log.items()):
            last = {}  # producer -> (send number, value) of its latest first occurrence
            for offset, value in sorted(log.items()):
                seen_here = any(p == partition for p, _ in places[value])
                places[value].append((partition, offset))
                if value not in self.sends:
                    self.blame("invented", partition=partition, offset=offset, value=value)
                    continue
                producer, number = self.sends[value]
                traits = self.producers[producer]
                if traits["idempotent"] and len(places[value]) > 1:
                    self.blame("duplicate", producer=producer, value=value, places=places[value][:])
                if value in self.refused:
                    self.blame("refused_but_stored", producer=producer, value=value, partition=partition, offset=offset)
                if seen_here or not traits["ordered"]:
                    continue
                if producer in last and number < last[producer][0]:
                    self.blame("reordered", producer=producer, partition=partition, offset=offset, value=value, after=last[producer][1])
                last[producer] = (number, value)
        return places

    def check_acks(self, places):
        for value, (partition, offset) in self.acks.items():
            found = places.get(value, [])
            if partition is not None and partition not in self.complete:
                self.blame("unread", partition=partition, value=value)
            elif not found:
                self.blame("lost", value=value, producer=self.sends[value][0], partition=partition, offset=offset)
            elif offset is not None and (partition, offset) not in found:
                self.blame("wrong_offset", value=value, producer=self.sends[value][0], acked=[partition, offset], found=found)

    def counts(self):
        """Totals for a human: events, and how often plain producers were stored twice."""
        stored = sum(len(log) for log in self.log.values())
        distinct = len({v for log in self.log.values() for v in log.values()})
        return {"sent": self.totals["send"], "acked": self.totals["ack"], "stored": stored, "stored twice": stored - distinct,
                "reads": self.totals["read"], "verdicts": len(self.verdicts)}


class Exact:
    """For a million records, when each producer numbers its own and the number decides the partition: every partition holds exactly its numbers, in order.

    owner(producer, number) is the partition. Give sent, all acks, then all reads of each partition from 0 on. Verdicts: skipped, invented,
    wrong_offset as above; misplaced (in another partition), missing, duplicate_or_reordered, acked_twice, unanswered."""

    def __init__(self, owner):
        self.owner, self.verdicts = owner, []
        self.sent = {}  # producer -> how many numbers it was given, from 0 on
        self.acks = collections.defaultdict(dict)  # producer -> number -> offset
        self.next = collections.defaultdict(int)  # partition -> offset
        self.due = {}  # (producer, partition) -> its numbers, ascending; what is next comes first

    def on_ack(self, producer, number, partition, offset):
        if self.owner(producer, number) != partition:
            self.blame("misplaced", producer, number, partition, offset)
        if self.acks[producer].setdefault(number, offset) != offset:
            self.blame("acked_twice", producer, number, partition, offset)

    def on_read(self, partition, offset, producer, number):
        if offset != self.next[partition]:
            self.verdicts.append({"verdict": "skipped", "partition": partition, "expected": self.next[partition], "found": offset})
        self.next[partition] = offset + 1
        if producer not in self.sent or not 0 <= number < self.sent[producer]:
            return self.blame("invented", producer, number, partition, offset)
        if self.owner(producer, number) != partition:
            return self.blame("misplaced", producer, number, partition, offset)
        at = self.acks[producer].get(number)
        if at is not None and at != offset:
            self.blame("wrong_offset", producer, number, partition, offset)
        key = producer, partition
        if key not in self.due:
            self.due[key] = iter([n for n in range(self.sent[producer]) if self.owner(producer, n) == partition]), -1
        numbers, last = self.due[key]
        if number <= last:
            # Either it is here twice, or it was counted as missing when a later one came.
            return self.blame("duplicate_or_reordered", producer, number, partition, offset)
        for due in numbers:
            if due == number:
                break
            self.blame("missing", producer, due, partition, offset)
        self.due[key] = numbers, number

    def blame(self, kind, producer, number, partition, offset):
        self.verdicts.append({"verdict": kind, "producer": producer, "number": number, "partition": partition, "offset": offset})

    def finish(self):
        """What is missing at the ends, and what nobody was told of."""
        for producer, count in self.sent.items():
            for partition in {self.owner(producer, number) for number in range(count)}:
                numbers, _ = self.due.get((producer, partition), (None, -1))
                left = [n for n in range(count) if self.owner(producer, n) == partition] if numbers is None else numbers
                for number in left:
                    self.blame("missing", producer, number, partition, self.next[partition])
            if len(self.acks[producer]) != count:
                self.verdicts.append({"verdict": "unanswered", "producer": producer, "acked": len(self.acks[producer]), "sent": count})
        return self.verdicts


def check(lines):
    """Checks a history given as JSON lines or as events; returns (verdicts, counts)."""
    checker = Checker()
    for line in lines:
        checker.add(json.loads(line) if isinstance(line, str) else line)
    verdicts = checker.finish()
    return verdicts, checker.counts()


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with open(sys.argv[1]) as history:
        verdicts, counts = check(history)
    for verdict in verdicts:
        print(json.dumps(verdict))
    print(json.dumps(counts))
    return 1 if verdicts else 0


if __name__ == "__main__":
    sys.exit(main())
