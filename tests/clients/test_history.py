"""Plants each fault in a small history and demands that the checker finds it, and only it."""
import unittest

import history

T = "t/0"


def good():
    """An idempotent producer `i` and a plain one `p`, four records each in turn, read once live and once at the end."""
    events = [{"e": "producer", "id": "i", "idempotent": True, "ordered": True},
              {"e": "producer", "id": "p", "idempotent": False, "ordered": True}]
    log = []
    for n in range(4):
        for producer in "ip":
            value = f"{producer}{n}"
            events += [{"e": "send", "id": producer, "v": value}, {"e": "ack", "id": producer, "v": value, "p": T, "o": len(log)}]
            log.append(value)
    for reader in ["live", "final"]:
        events.append({"e": "seek", "r": reader, "p": T, "o": 0})
        events += [{"e": "read", "r": reader, "p": T, "o": o, "v": v} for o, v in enumerate(log)]
    events += [{"e": "end", "p": T, "o": len(log)}, {"e": "complete", "r": "final", "p": T, "o": len(log)}]
    return events


def with_log(log):
    """The good sends and acknowledgements without offsets, and a final log of the caller's."""
    events = [e if e["e"] != "ack" else {**e, "p": None, "o": None} for e in good() if e["e"] in ("producer", "send", "ack")]
    events.append({"e": "seek", "r": "final", "p": T, "o": 0})
    events += [{"e": "read", "r": "final", "p": T, "o": o, "v": v} for o, v in enumerate(log)]
    return events + [{"e": "complete", "r": "final", "p": T, "o": len(log)}]


GOOD_LOG = [f"{p}{n}" for n in range(4) for p in "ip"]


class Planted(unittest.TestCase):
    def kinds(self, events):
        return sorted({v["verdict"] for v in history.check(events)[0]})

    def test_good_history_has_no_verdict(self):
        self.assertEqual(self.kinds(good()), [])
        self.assertEqual(self.kinds(with_log(GOOD_LOG)), [])

    def test_lost(self):
        self.assertEqual(self.kinds(with_log([v for v in GOOD_LOG if v != "p2"])), ["lost"])

    def test_lost_at_the_end(self):
        self.assertEqual(self.kinds(with_log(GOOD_LOG[:-1])), ["lost"])

    def test_unacknowledged_may_be_missing(self):
        events = [e for e in with_log(GOOD_LOG[:-1]) if not (e["e"] == "ack" and e["v"] == "p3")]
        self.assertEqual(self.kinds(events), [])

    def test_duplicate_of_idempotent(self):
        self.assertEqual(self.kinds(with_log(GOOD_LOG + ["i3"])), ["duplicate"])

    def test_duplicate_in_another_partition(self):
        events = with_log(GOOD_LOG) + [{"e": "seek", "r": "final", "p": "t/1", "o": 0}, {"e": "read", "r": "final", "p": "t/1", "o": 0, "v": "i0"}]
        self.assertEqual(self.kinds(events), ["duplicate"])

    def test_duplicate_of_plain_is_allowed(self):
        self.assertEqual(self.kinds(with_log(GOOD_LOG + ["p3"])), [])
        self.assertEqual(self.kinds(with_log(["i0", "p0", "i1", "p1", "p0", "p1", *GOOD_LOG[4:]])), [])

    def test_reordered(self):
        self.assertEqual(self.kinds(with_log(["p0", "i0", "i1", "p2", "p1", "i2", "i3", "p3"])), ["reordered"])
        self.assertEqual(self.kinds(with_log(["i1", "i0", "p0", "p1", "p2", "i2", "i3", "p3"])), ["reordered"])

    def test_unordered_producer_may_reorder(self):
        events = with_log(["p0", "i0", "i1", "p2", "p1", "i2", "i3", "p3"])
        events[1] = {**events[1], "ordered": False}
        self.assertEqual(self.kinds(events), [])

    def test_offset_going_back(self):
        events = good()
        at = events.index({"e": "read", "r": "live", "p": T, "o": 5, "v": "p2"})
        events.insert(at, {"e": "read", "r": "live", "p": T, "o": 3, "v": "p1"})
        self.assertEqual(self.kinds(events), ["skipped", "went_back"])

    def test_seek_explains_going_back(self):
        events = good()
        at = events.index({"e": "read", "r": "live", "p": T, "o": 5, "v": "p2"})
        events[at:at] = [{"e": "seek", "r": "live", "p": T, "o": 3}, {"e": "read", "r": "live", "p": T, "o": 3, "v": "p1"},
                         {"e": "read", "r": "live", "p": T, "o": 4, "v": "i2"}]
        self.assertEqual(self.kinds(events), [])

    def test_skipped_poll(self):
        events = good()
        events.remove({"e": "read", "r": "live", "p": T, "o": 4, "v": "i2"})
        self.assertEqual(self.kinds(events), ["skipped"])

    def test_incomplete_final_read(self):
        events = good()
        events.remove({"e": "read", "r": "final", "p": T, "o": 7, "v": "p3"})
        self.assertEqual(self.kinds(events), ["skipped"])

    def test_rewritten(self):
        events = good()
        at = events.index({"e": "read", "r": "live", "p": T, "o": 7, "v": "p3"})
        events[at] = {**events[at], "v": "i0"}
        self.assertIn("rewritten", self.kinds(events))

    def test_invented(self):
        self.assertEqual(self.kinds(with_log(GOOD_LOG + ["ghost"])), ["invented"])

    def test_wrong_offset(self):
        events = good()
        at = next(n for n, e in enumerate(events) if e["e"] == "ack" and e["v"] == "i2")
        events[at] = {**events[at], "o": 6}
        self.assertEqual(self.kinds(events), ["wrong_offset"])

    def test_refused_but_stored(self):
        events = good()
        at = next(n for n, e in enumerate(events) if e["e"] == "ack" and e["v"] == "i2")
        events[at] = {"e": "refused", "id": "i", "v": "i2"}
        self.assertEqual(self.kinds(events), ["refused_but_stored"])

    def test_end_went_back(self):
        events = good()
        events.insert(-1, {"e": "end", "p": T, "o": 7})
        self.assertEqual(self.kinds(events), ["end_went_back"])

    def test_shorter_log_than_seen(self):
        events = with_log(GOOD_LOG)
        events.insert(-1, {"e": "end", "p": T, "o": 9})
        self.assertEqual(self.kinds(events), ["end_went_back"])

    def test_nobody_read_it(self):
        self.assertEqual(self.kinds([e for e in good() if e["e"] != "complete"]), ["unread"])

    def test_nonsense_is_refused(self):
        with self.assertRaises(ValueError):
            history.check([{"e": "ack", "id": "i", "v": "never sent", "p": T, "o": 0}])


class ExactTest(unittest.TestCase):
    """Two partitions, odd and even numbers, two producers `a` and `b` in turn."""

    LOG = {0: [("a", 0), ("b", 0), ("a", 2), ("b", 2)], 1: [("a", 1), ("b", 1), ("a", 3), ("b", 3)]}

    def kinds(self, log, acks=None, sent=4):
        exact = history.Exact(lambda producer, number: number % 2)
        exact.sent = {"a": sent, "b": 4}
        for partition, records in (acks or log).items():
            for offset, (producer, number) in enumerate(records):
                exact.on_ack(producer, number, partition, offset)
        for partition, records in log.items():
            for offset, (producer, number) in enumerate(records):
                exact.on_read(partition, offset, producer, number)
        return [v["verdict"] for v in exact.finish()]

    def changed(self, partition, change):
        records = list(self.LOG[partition])
        change(records)
        return self.LOG | {partition: records}

    def test_sound(self):
        self.assertEqual(self.kinds(self.LOG), [])

    def test_missing_at_the_end_and_in_the_middle(self):
        self.assertEqual(self.kinds(self.changed(1, lambda r: r.pop()), self.LOG), ["missing"])
        self.assertIn("missing", self.kinds(self.changed(0, lambda r: r.pop(0)), self.LOG))

    def test_nothing_of_a_partition(self):
        self.assertEqual(self.kinds(self.changed(0, lambda r: r.clear()), self.LOG), ["missing"] * 4)

    def test_twice(self):
        self.assertEqual(self.kinds(self.changed(0, lambda r: r.append(("b", 2))), self.LOG)[-1], "duplicate_or_reordered")

    def test_another_order(self):
        def swap(records):
            records[0], records[2] = records[2], records[0]
        self.assertIn("duplicate_or_reordered", self.kinds(self.changed(1, swap)))

    def test_another_partition(self):
        self.assertEqual(self.kinds({0: self.LOG[1], 1: self.LOG[0]})[:1], ["misplaced"])

    def test_another_offset_than_acknowledged(self):
        def swap(records):
            records[0], records[1] = records[1], records[0]
        self.assertEqual(self.kinds(self.changed(1, swap), self.LOG), ["wrong_offset"] * 2)

    def test_never_sent(self):
        self.assertIn("invented", self.kinds(self.LOG, sent=3))

    def test_unanswered(self):
        self.assertEqual(self.kinds(self.LOG, self.changed(1, lambda r: r.pop())), ["unanswered"])


if __name__ == "__main__":
    unittest.main()
