"""mongo: a load on a server that speaks MongoDB's protocol, and its verifier.

Every write asks for acknowledgment after the journal (j: true). Prints one
JSON object; exit status 3 when the data is wrong.

  mongo.py load   --port P --ledger F [--docs N]     bulk and single inserts, indexes
  mongo.py churn  --port P --ledger F --seconds S    inserts, updates, deletes
  mongo.py verify --port P --ledger F                compare everything
"""

import argparse
import hashlib
import json
import random
import sys
import threading
import time

import pymongo

from ledger import Ledger, content, deleted

SEED = 7
THREADS = 4


def document(item, version):
    """An item's document at a version."""
    return {"_id": item, "version": version, "group": item % 23, "name": f"name-{item * 7919 % 10007:05d}",
            "text": content(SEED, item, version), "tags": [f"t{item % 5}", f"v{version % 3}"]}


def connect(port):
    """The collection, with j: true; waits up to 60 s for the server."""
    client = pymongo.MongoClient("127.0.0.1", port, directConnection=True, serverSelectionTimeoutMS=60000,
                                 socketTimeoutMS=60000)
    return client.shop.get_collection("items", write_concern=pymongo.WriteConcern(w=1, j=True))


def step(items, ledger, item):
    """Takes one item to its next version."""
    [version] = ledger.issue([item])
    if deleted(version):
        items.delete_one({"_id": item})
    elif deleted(version - 1):
        items.insert_one(document(item, version))
    else:
        new = document(item, version)
        del new["_id"]
        # A crash may have left out a deletion or an insertion that was tried.
        items.update_one({"_id": item}, {"$set": new}, upsert=True)
    ledger.ack([item], [version])


def insert(items, ledger, item):
    """Like step for an item that a crash may have left in place."""
    try:
        step(items, ledger, item)
    except pymongo.errors.DuplicateKeyError:
        step(items, ledger, item)


def load(items, ledger, docs):
    """Half of the documents in batches, half one by one on several threads."""
    for first in range(0, docs // 2, 100):
        batch = range(first, min(first + 100, docs // 2))
        versions = ledger.issue(batch)
        items.insert_many([document(i, v) for i, v in zip(batch, versions)])
        ledger.ack(batch, versions)
    items.create_index("group")
    items.create_index([("name", 1), ("version", -1)])
    run_threads(lambda n: [insert(items, ledger, i) for i in range(docs // 2 + n, docs, THREADS)])


def churn(items, ledger, seconds):
    """Random steps; each thread has its own items."""
    count = max(ledger.issued, default=0) + 1 + 10 * THREADS
    deadline = time.monotonic() + seconds

    def work(number):
        rng = random.Random(time.time_ns() + number)
        while time.monotonic() < deadline:
            insert(items, ledger, rng.randrange(count // THREADS) * THREADS + number)

    run_threads(work)


def run_threads(work):
    """Runs work(0) … work(THREADS-1) at once; the first failure ends all."""
    failures = []

    def guarded(number):
        try:
            work(number)
        except Exception as e:  # whatever it is, the process must end with it
            failures.append(e)

    threads = [threading.Thread(target=guarded, args=(n,), daemon=True) for n in range(THREADS)]
    for t in threads:
        t.start()
    while any(t.is_alive() for t in threads) and not failures:
        time.sleep(0.02)
    if failures:
        sys.exit(f"mongo.py: {type(failures[0]).__name__}: {failures[0]}")


def verify(items, ledger):
    """Every item against the ledger, and the indexes against the collection."""
    wrong, seen, digest = [], set(), hashlib.sha256()
    groups = {}
    for doc in items.find().sort("_id", 1):
        item, version = doc["_id"], doc["version"]
        seen.add(item)
        groups[item % 23] = groups.get(item % 23, 0) + 1
        digest.update(f"{item} {version} {doc['text']}\n".encode())
        complaint = ledger.judge(item, version)
        if not complaint and doc != document(item, version):
            complaint = f"item {item} has another content than version {version}"
        if complaint:
            wrong.append(complaint)
    wrong += filter(None, (ledger.judge(i, None) for i in ledger.issued if i not in seen))
    for group, want in groups.items():
        got = len(list(items.find({"group": group}).hint([("group", 1)])))
        if got != want:
            wrong.append(f"group {group} has {got} documents by its index, {want} by a scan")
    counted = items.count_documents({})
    if counted != len(seen):
        wrong.append(f"count says {counted}, a scan {len(seen)}")
    return {"documents": len(seen), "digest": digest.hexdigest(), "wrong": wrong[:10], "ok": not wrong}


def main():
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=["load", "churn", "verify"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ledger", required=True)
    parser.add_argument("--docs", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=5)
    args = parser.parse_args()
    items, ledger = connect(args.port), Ledger(args.ledger)
    result, begin, before = {}, time.monotonic(), sum(ledger.acked.values())
    if args.mode == "load":
        load(items, ledger, args.docs)
    elif args.mode == "churn":
        churn(items, ledger, args.seconds)
    else:
        result = verify(items, ledger)
    elapsed = time.monotonic() - begin
    result |= {"mode": args.mode, "seconds": round(elapsed, 3), "acknowledged": sum(ledger.acked.values()),
               "ops_per_second": round((sum(ledger.acked.values()) - before) / elapsed, 1)}
    print(json.dumps(result))
    sys.exit(0 if result.get("ok", True) else 3)


if __name__ == "__main__":
    main()
