/*
 * ledger: what the load was told, kept outside the file system under test.
 *
 * For each key: the highest version that was tried, and the highest one whose
 * durability was acknowledged. After any crash the database must hold a
 * version between the two. The file is a shared mapping, so that it survives
 * the kill of the process (not that of the machine). Each key is written by
 * one thread at a time; words are written whole.
 */
#ifndef WTLOAD_LEDGER_H
#define WTLOAD_LEDGER_H

#include <stdatomic.h>
#include <stdint.h>

struct ledger_entry {
	_Atomic uint64_t issued, acked; /* 0: none */
};

struct ledger {
	uint64_t seed, records, value_size;
	struct ledger_entry *entry; /* [records] */
};

/* Both exit with a message if the file cannot be had or is not a ledger. */
void ledger_create(struct ledger *l, const char *path, uint64_t seed, uint64_t records, uint64_t value_size);
void ledger_open(struct ledger *l, const char *path);

/* ledger_settle acknowledges everything issued: after a clean close. */
void ledger_settle(struct ledger *l);

#endif
