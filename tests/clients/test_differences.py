"""No reason for a difference without a case that gives it, and none that is not listed."""
import pathlib
import re
import unittest

from differences import REASONS

CASES = "\n".join(path.read_text() for path in pathlib.Path(__file__).parent.glob("differential_*.py"))


class Reasons(unittest.TestCase):
    def test_every_reason_is_given_by_a_case(self):
        self.assertEqual([reason for reason in REASONS if f'"{reason}"' not in CASES], [])

    def test_a_reason_is_a_sentence_without_a_full_stop(self):
        self.assertEqual([reason for reason, text in REASONS.items() if not re.fullmatch(r".*[^.\s]", text)], [])
