"""Known values for the encoders; a wrong encoder would turn the bad-input cases into tests of nothing."""
import struct
import unittest

import wire


class Primitives(unittest.TestCase):
    def test_crc32c_known_values(self):
        self.assertEqual(wire.crc32c(b"123456789"), 0xE3069283)
        self.assertEqual(wire.crc32c(bytes(32)), 0x8A9136AA)
        self.assertEqual(wire.crc32c(b""), 0)

    def test_varints(self):
        for value, encoded in [(0, b"\x00"), (-1, b"\x01"), (1, b"\x02"), (63, b"\x7e"), (64, b"\x80\x01"), (-65, b"\x81\x01"), (300, b"\xd8\x04")]:
            self.assertEqual(wire.varint(value), encoded)
        self.assertEqual(wire.uvarint(300), b"\xac\x02")

    def test_request_header(self):
        self.assertEqual(wire.framed(wire.request(18, 0, 7, b"", client="c")), bytes.fromhex("0000000b 0012 0000 00000007 0001 63"))

    def test_reader_refuses_to_run_past_the_end(self):
        with self.assertRaises(ValueError):
            wire.Reader(b"\0\0").unpack("i")


class Batches(unittest.TestCase):
    def test_round_trip(self):
        data = wire.Batch([wire.record(0, None, b"a"), wire.record(1, b"k", None), wire.record(2, b"", b"", [(b"h", b"1"), (b"h", None)])],
                          base_offset=40).encode()
        self.assertEqual(wire.decode_batches(data + data[:50]), [(40, 42, [(40, None, b"a"), (41, b"k", None), (42, b"", b"")])])

    def test_layout(self):
        data = wire.batch(b"v", producer_id=5, producer_epoch=1, base_sequence=9)
        self.assertEqual(struct.unpack_from(">i", data, 8)[0], len(data) - 12)
        self.assertEqual(data[16], 2)
        self.assertEqual(struct.unpack_from(">I", data, 17)[0], wire.crc32c(data[21:]))
        self.assertEqual(struct.unpack_from(">qhii", data, 43), (5, 1, 9, 1))

    def test_lies_are_encoded(self):
        data = wire.batch(b"v", count=1000, last_offset_delta=999, crc=1, magic=3)
        self.assertEqual((struct.unpack_from(">i", data, 57)[0], struct.unpack_from(">i", data, 23)[0]), (1000, 999))
        self.assertEqual((data[16], struct.unpack_from(">I", data, 17)[0]), (3, 1))
        with self.assertRaises(ValueError):
            wire.decode_batches(data)


if __name__ == "__main__":
    unittest.main()
