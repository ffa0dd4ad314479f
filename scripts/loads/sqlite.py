"""sqlite: a load on SQLite, and its verifier.

Each transaction takes three items to their next version and counts itself;
with synchronous=FULL every commit waits for the disk. Prints one JSON object;
exit status 3 when the data is wrong.

  sqlite.py run    --db FILE --ledger F --journal wal|delete|truncate|persist --seconds S
  sqlite.py verify --db FILE --ledger F
"""

import argparse
import json
import random
import sqlite3
import sys
import time

from ledger import Ledger, content, deleted

SEED = 11
ITEMS = 2000
COUNTER = ITEMS  # the counter's place in the ledger; its version is its value


def connect(path, journal=None):
    """Opens the database, in a journal mode or as it is."""
    db = sqlite3.connect(path, isolation_level=None, timeout=30)
    if journal:
        [got] = db.execute(f"PRAGMA journal_mode={journal}").fetchone()
        if got != journal:
            sys.exit(f"sqlite.py: journal mode {got} instead of {journal}")
        db.execute("PRAGMA wal_autocheckpoint=200")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("PRAGMA cache_size=-2000")
    return db


def create(db):
    """Makes the tables unless they are there."""
    db.executescript("""
        BEGIN IMMEDIATE;
        CREATE TABLE IF NOT EXISTS items (id INTEGER PRIMARY KEY, version INTEGER NOT NULL, text TEXT NOT NULL);
        CREATE INDEX IF NOT EXISTS by_text ON items (text);
        CREATE TABLE IF NOT EXISTS counter (id INTEGER PRIMARY KEY CHECK (id = 0), n INTEGER NOT NULL);
        INSERT OR IGNORE INTO counter VALUES (0, 0);
        COMMIT;""")


def transaction(db, ledger, rng):
    """Three items and the counter, or none of them."""
    items = rng.sample(range(ITEMS), 3) + [COUNTER]
    versions = ledger.issue(items)
    db.execute("BEGIN IMMEDIATE")
    for item, version in zip(items[:3], versions):
        if deleted(version):
            db.execute("DELETE FROM items WHERE id = ?", (item,))
        else:
            db.execute("INSERT OR REPLACE INTO items VALUES (?, ?, ?)",
                       (item, version, content(SEED, item, version)))
    db.execute("UPDATE counter SET n = ?", (versions[3],))
    db.execute("COMMIT")
    ledger.ack(items, versions)


def run(args, ledger):
    """Transactions for some seconds."""
    db = connect(args.db, args.journal)
    create(db)
    rng = random.Random(time.time_ns())
    times = []
    begin = now = time.monotonic()
    while now - begin < args.seconds:
        transaction(db, ledger, rng)
        times.append(-now + (now := time.monotonic()))
    db.close()
    times.sort()
    return {"commits": len(times), "seconds": round(now - begin, 3),
            "ops_per_second": round(len(times) / (now - begin), 1),
            "p50_us": round(times[len(times) // 2] * 1e6, 1),
            "p99_us": round(times[len(times) * 99 // 100] * 1e6, 1)}


def verify(args, ledger):
    """SQLite's own check, then every item against the ledger."""
    db = connect(args.db)
    create(db)
    wrong = [row[0] for row in db.execute("PRAGMA integrity_check") if row[0] != "ok"]
    found = {}
    for item, version, text in db.execute("SELECT id, version, text FROM items"):
        found[item] = version
        if text != content(SEED, item, version):
            wrong.append(f"item {item} has another content than version {version}")
    wrong += filter(None, (ledger.judge(i, found.get(i)) for i in range(ITEMS)))
    [counter] = db.execute("SELECT n FROM counter").fetchone()
    low, high = ledger.acked.get(COUNTER, 0), ledger.issued.get(COUNTER, 0)
    if not low <= counter <= high:
        wrong.append(f"the counter is {counter}, acknowledged {low}, tried {high}")
    db.close()
    return {"items": len(found), "transactions": counter, "acknowledged": low, "wrong": wrong[:10],
            "ok": not wrong}


def main():
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=["run", "verify"])
    parser.add_argument("--db", required=True)
    parser.add_argument("--ledger", required=True)
    parser.add_argument("--journal", choices=["wal", "delete", "truncate", "persist"], default="wal")
    parser.add_argument("--seconds", type=float, default=5)
    args = parser.parse_args()
    result = {"run": run, "verify": verify}[args.mode](args, Ledger(args.ledger))
    print(json.dumps(result))
    sys.exit(0 if result.get("ok", True) else 3)


if __name__ == "__main__":
    main()
