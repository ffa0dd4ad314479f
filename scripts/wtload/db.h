/*
 * db: a WiredTiger database configured as mongod configures it: a journal
 * directory with a compressed log, compressed pages, checkpoints every few
 * seconds, a cache small enough that it must evict, and two tables a
 * collection: records by number, and an index that leads to them. A record
 * and its index entry are written in one transaction.
 */
#ifndef WTLOAD_DB_H
#define WTLOAD_DB_H

#include "ledger.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wiredtiger.h>

struct db_options {
	const char *home;       /* made if it is not there */
	const char *compressor; /* snappy, zlib or none */
	int cache_mb;
	int checkpoint_seconds;
	bool sync_commits; /* each commit waits for the disk */
};

struct db {
	WT_CONNECTION *conn;
	const char *compressor;
};

/* One thread's session. */
struct db_session {
	WT_SESSION *session;
	WT_CURSOR *records, *index;
	uint64_t seed;
	size_t value_size;
	uint8_t *value, *scratch; /* [value_size] */
};

/* Any failure of WiredTiger's ends the process: see die.h. */
void db_open(struct db *db, const struct db_options *o);
void db_close(struct db *db);
void db_create_tables(struct db *db);

void db_session_open(struct db *db, struct db_session *s, const struct ledger *l);
void db_session_close(struct db_session *s);

/* db_put writes a record at a version; with_index for a new one. It tries again on conflicts. */
void db_put(struct db_session *s, uint64_t key, uint64_t version, bool with_index);

/* What db_get finds. */
enum db_found { DB_FOUND, DB_MISSING, DB_CORRUPT };

/* db_get reads a record and checks its content; version is set when it is found. */
enum db_found db_get(struct db_session *s, uint64_t key, uint64_t *version);

/* db_index_ok says whether the index leads to the record exactly when it should. */
bool db_index_ok(struct db_session *s, uint64_t key, bool present);

/* db_count counts a cursor's rows. */
uint64_t db_count(WT_CURSOR *c);

#endif
