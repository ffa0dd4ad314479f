/*
 * run: the modes. Each runs on its own threads and prints one JSON object.
 */
#ifndef WTLOAD_RUN_H
#define WTLOAD_RUN_H

#include "db.h"
#include "ledger.h"

struct run_options {
	struct db_options db;
	const char *ledger;
	uint64_t seed, records, value_size;
	int threads, seconds, read_percent;
};

int run_load(const struct run_options *o);   /* write every record once */
int run_mixed(const struct run_options *o);  /* read and update for some seconds */
int run_commit(const struct run_options *o); /* update; each commit waits for the disk */
int run_verify(const struct run_options *o); /* compare everything with the ledger */

#endif
