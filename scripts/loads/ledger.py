"""ledger: what a load was told, kept outside the file system under test.

Each item has a version that only grows. The ledger remembers, per item, the
highest version that was tried and the highest whose durability was
acknowledged. After any crash an item must be as of one version between the
two. An item's state is a function of (seed, item, version): deleted at every
seventh version, else a text that content() makes.

The file is a log of lines, each written with one call, so that it survives the
kill of the process (not that of the machine).
"""

import hashlib
import os


def deleted(version):
    """Whether an item does not exist at a version."""
    return version % 7 == 0


def content(seed, item, version, size=400):
    """The text of an item at a version; about half of it compresses."""
    digest = hashlib.sha256(f"{seed}/{item}/{version}".encode()).hexdigest()
    return (digest * (size // 128 + 1))[: size // 2] + "lorem ipsum " * (size // 24)


class Ledger:
    """A ledger file; safe for several threads that write different items."""

    def __init__(self, path):
        self.issued, self.acked = {}, {}
        self._read(path)
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def _read(self, path):
        try:
            with open(path, encoding="ascii") as f:
                lines = f.read().splitlines(keepends=True)
        except FileNotFoundError:
            return
        for line in lines:
            if not line.endswith("\n"):
                raise ValueError(f"{path}: torn line {line!r}")
            kind, item, version = line.split()
            {"i": self.issued, "a": self.acked}[kind][int(item)] = int(version)

    def _write(self, kind, items, versions):
        lines = "".join(f"{kind} {i} {v}\n" for i, v in zip(items, versions))
        os.write(self._fd, lines.encode("ascii"))

    def issue(self, items):
        """Draws the next version of each item: above every one ever tried."""
        versions = [self.issued.get(i, 0) + 1 for i in items]
        self._write("i", items, versions)
        self.issued.update(zip(items, versions))
        return versions

    def ack(self, items, versions):
        """Notes that these versions were acknowledged as durable."""
        self._write("a", items, versions)
        self.acked.update(zip(items, versions))

    def judge(self, item, found):
        """Judges an item; found is its version, None where there is none.

        Returns "" when it is right, else what is wrong with it. The content
        is the caller's to compare.
        """
        low, high = self.acked.get(item, 0), self.issued.get(item, 0)
        if found is not None:
            if low <= found <= high and not deleted(found):
                return ""
            return f"item {item} has version {found}, acknowledged {low}, tried {high}"
        if low == 0 or any(deleted(v) for v in range(low, high + 1)):
            return ""
        return f"item {item} is lost: acknowledged {low}, tried {high}"
