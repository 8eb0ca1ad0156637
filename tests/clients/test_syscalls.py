"""The order checker on written traces: the right order passes, each wrong one is named."""
import tempfile
import unittest

import syscalls
import harness

SOCKET = "16<TCP:[127.0.0.1:9092->127.0.0.1:4000]>"


class Order(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.data = self.directory.name

    def tearDown(self):
        self.directory.cleanup()

    def trace(self, *steps):
        lines = {
            "recv": f'7 1.000 recvfrom({SOCKET}, "x", 1, 0, NULL, NULL) = 1 <0.000001>',
            "open": f'7 1.100 openat(AT_FDCWD</>, "{self.data}/.tmp", O_WRONLY|O_CREAT, 0666) = 17<{self.data}/.tmp> <0.000001>',
            "file": f"7 1.200 fsync(17<{self.data}/.tmp>) = 0 <0.001000>",
            "rename": f'7 1.300 rename("{self.data}/.tmp", "{self.data}/object") = 0 <0.000001>',
            "directory": f"7 1.400 fsync(18<{self.data}>) = 0 <0.001000>",
            "metadata": f"8 1.500 fdatasync(15<{self.data}/meta> <unfinished ...>\n9 1.501 read(3<x>, \"\", 1) = 0 <0.000001>\n8 1.502 <... fdatasync resumed>) = 0 <0.002000>",
            "answer": f'9 1.600 writev({SOCKET}, [{{iov_base="y", iov_len=1}}], 1) = 1 <0.000010>',
        }
        text, at = [], 1.0
        for step in steps:
            at += 0.1
            body = lines[step].split("\n")
            text += [" ".join([line.split(" ")[0], f"{at + n / 1000:.6f}", *line.split(" ")[2:]]) for n, line in enumerate(body)]
        return syscalls.parse(text)

    def judge(self, *steps):
        return syscalls.judge(self.trace(*steps), self.data, {self.data + "/meta"}, "127.0.0.1:4000]")

    def test_right_order(self):
        self.assertIn("answer", self.judge("recv", "open", "file", "rename", "directory", "metadata", "answer"))
        self.assertIn("answer", self.judge("recv", "open", "rename", "file", "directory", "metadata", "answer"))

    def test_wrong_orders(self):
        for steps, complaint in [
            (["recv", "open", "file", "rename", "directory", "answer", "metadata"], "answered before"),
            (["recv", "open", "file", "rename", "metadata", "directory", "answer"], "before the directory"),
            (["recv", "open", "rename", "directory", "file", "metadata", "answer"], "before the file"),
            (["recv", "open", "metadata", "file", "rename", "directory", "answer"], "before the directory"),
            (["recv", "open", "rename", "directory", "metadata", "answer"], "no sync of a new file"),
            (["recv", "open", "file", "rename", "metadata", "answer"], "directory of the new object"),
            (["recv", "open", "file", "rename", "directory", "answer"], "existed before"),
        ]:
            with self.assertRaisesRegex(harness.Failed, complaint, msg=str(steps)):
                self.judge(*steps)


if __name__ == "__main__":
    unittest.main()
