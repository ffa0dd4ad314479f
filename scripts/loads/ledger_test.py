"""Tests of ledger; run by `python3 -m unittest discover -s scripts/loads -p '*_test.py'`."""

import os
import tempfile
import unittest

from ledger import Ledger, content, deleted


class LedgerTest(unittest.TestCase):
    """A verifier must be able to say no."""

    def setUp(self):
        self.dir = tempfile.TemporaryDirectory()
        self.addCleanup(self.dir.cleanup)
        self.path = os.path.join(self.dir.name, "ledger")
        self.ledger = Ledger(self.path)

    def advance(self, item, acked, issued):
        """Brings an item to where acked and issued stand."""
        for version in range(1, issued + 1):
            self.assertEqual(self.ledger.issue([item]), [version])
            if version <= acked:
                self.ledger.ack([item], [version])

    def test_judges(self):
        cases = [
            # acked, issued, found, right
            (0, 0, None, True),
            (0, 0, 1, False),  # never written
            (0, 1, None, True),
            (0, 1, 1, True),
            (1, 1, 1, True),
            (1, 1, None, False),  # lost
            (2, 2, 1, False),  # stale
            (2, 3, 2, True),
            (2, 3, 3, True),
            (2, 3, 4, False),  # from the future
            (6, 7, None, True),  # the deletion got through
            (6, 7, 6, True),
            (7, 7, None, True),
            (7, 7, 6, False),  # undeleted
            (7, 8, 7, False),  # present at a version that does not exist
        ]
        for item, (acked, issued, found, right) in enumerate(cases):
            with self.subTest(acked=acked, issued=issued, found=found):
                self.advance(item, acked, issued)
                self.assertEqual(self.ledger.judge(item, found) == "", right)

    def test_reopened(self):
        self.advance(5, 2, 3)
        again = Ledger(self.path)
        self.assertEqual((again.acked, again.issued), ({5: 2}, {5: 3}))
        self.assertEqual(again.issue([5, 6]), [4, 1])

    def test_torn(self):
        self.advance(5, 1, 1)
        with open(self.path, "a", encoding="ascii") as f:
            f.write("a 5")
        with self.assertRaises(ValueError):
            Ledger(self.path)

    def test_content(self):
        seen = {content(s, i, v) for s in (1, 2) for i in (1, 2) for v in (1, 2)}
        self.assertEqual(len(seen), 8)
        self.assertEqual({len(c) for c in seen}, {len(content(1, 1, 1))})
        self.assertEqual([v for v in range(15) if deleted(v)], [0, 7, 14])


if __name__ == "__main__":
    unittest.main()
