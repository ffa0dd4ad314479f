#include "run.h"

#include "die.h"
#include "latency.h"
#include "record.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

/* A thread owns the keys that are its number modulo the number of threads. */
struct worker {
	const struct run_options *o;
	struct db *db;
	struct ledger *ledger;
	struct latency latency;
	uint64_t deadline, reads, writes, state;
	int number;
	pthread_t thread;
};

typedef void *work_fn(void *);

static struct worker *
start(const struct run_options *o, struct db *db, struct ledger *l, work_fn *fn)
{
	struct worker *w = calloc((size_t)o->threads, sizeof(*w));
	uint64_t deadline = now_ns() + (uint64_t)o->seconds * UINT64_C(1000000000);

	if (w == NULL)
		die_errno("memory");
	for (int i = 0; i < o->threads; i++) {
		w[i] = (struct worker){.o = o, .db = db, .ledger = l, .number = i, .deadline = deadline};
		w[i].state = record_mix(l->seed + now_ns()) + (uint64_t)i;
		if (pthread_create(&w[i].thread, NULL, fn, &w[i]) != 0)
			die("cannot start a thread");
	}
	return w;
}

/* finish waits for all and leaves the sums in the first. */
static void
finish(struct worker *w, int n)
{
	for (int i = 0; i < n; i++)
		if (pthread_join(w[i].thread, NULL) != 0)
			die("cannot join a thread");
	for (int i = 1; i < n; i++) {
		w[0].reads += w[i].reads;
		w[0].writes += w[i].writes;
		latency_merge(&w[0].latency, &w[i].latency);
	}
}

static double
seconds_since(uint64_t start_ns)
{
	return (double)(now_ns() - start_ns) / 1e9;
}

static uint64_t
draw(struct worker *w, uint64_t below)
{
	w->state = record_mix(w->state);
	return w->state % below;
}

static uint64_t
own_key(struct worker *w)
{
	uint64_t n = (uint64_t)w->o->threads, key = draw(w, w->ledger->records / n) * n;

	return key + (uint64_t)w->number;
}

/*
 * next_version is above every version that was ever tried for the key: one
 * that a crash left undecided is never used again for other content.
 */
static uint64_t
next_version(struct ledger_entry *e)
{
	uint64_t v = atomic_load(&e->issued) + 1;

	atomic_store(&e->issued, v);
	return v;
}

/* update writes a key's next version; a key that may have no index entry gets one. */
static uint64_t
update(struct worker *w, struct db_session *s, uint64_t key)
{
	struct ledger_entry *e = &w->ledger->entry[key];
	uint64_t version = next_version(e);

	db_put(s, key, version, atomic_load(&e->acked) == 0);
	w->writes++;
	return version;
}

static void *
load_worker(void *arg)
{
	struct worker *w = arg;
	struct db_session s;

	db_session_open(w->db, &s, w->ledger);
	for (uint64_t key = (uint64_t)w->number; key < w->ledger->records; key += (uint64_t)w->o->threads)
		update(w, &s, key);
	db_session_close(&s);
	return NULL;
}

int
run_load(const struct run_options *o)
{
	struct ledger l;
	struct worker *w;
	struct db db;
	uint64_t start_ns;
	double s;

	ledger_create(&l, o->ledger, o->seed, o->records, o->value_size);
	db_open(&db, &o->db);
	start_ns = now_ns();
	db_create_tables(&db);
	w = start(o, &db, &l, load_worker);
	finish(w, o->threads);
	db_close(&db); /* writes a checkpoint, which belongs to the load */
	s = seconds_since(start_ns);
	ledger_settle(&l);
	printf("{\"mode\":\"load\",\"records\":%llu,\"seconds\":%.3f,\"ops_per_second\":%.1f}\n",
	    (unsigned long long)w->writes, s, (double)w->writes / s);
	free(w);
	return 0;
}

static void
mixed_read(struct worker *w, struct db_session *s)
{
	uint64_t key = draw(w, w->ledger->records), version = 0;
	uint64_t acked = atomic_load(&w->ledger->entry[key].acked);
	enum db_found found = db_get(s, key, &version);

	if (found == DB_CORRUPT || (found == DB_MISSING && acked > 0) ||
	    (found == DB_FOUND && (version < acked || version > atomic_load(&w->ledger->entry[key].issued)))) {
		fprintf(stderr, "wtload: record %llu is wrong while the load runs\n", (unsigned long long)key);
		_Exit(EXIT_DATA);
	}
	w->reads++;
}

static void *
mixed_worker(void *arg)
{
	struct worker *w = arg;
	struct db_session s;

	db_session_open(w->db, &s, w->ledger);
	while (now_ns() < w->deadline) {
		if (draw(w, 100) < (uint64_t)w->o->read_percent) {
			mixed_read(w, &s);
			continue;
		}
		update(w, &s, own_key(w));
	}
	db_session_close(&s);
	return NULL;
}

int
run_mixed(const struct run_options *o)
{
	struct ledger l;
	struct worker *w;
	struct db db;
	uint64_t start_ns;
	double s;

	ledger_open(&l, o->ledger);
	db_open(&db, &o->db);
	start_ns = now_ns();
	w = start(o, &db, &l, mixed_worker);
	finish(w, o->threads);
	s = seconds_since(start_ns);
	db_close(&db);
	ledger_settle(&l);
	printf("{\"mode\":\"mixed\",\"reads\":%llu,\"writes\":%llu,\"seconds\":%.3f,\"ops_per_second\":%.1f}\n",
	    (unsigned long long)w->reads, (unsigned long long)w->writes, s, (double)(w->reads + w->writes) / s);
	free(w);
	return 0;
}

static void *
commit_worker(void *arg)
{
	struct worker *w = arg;
	struct db_session s;

	db_session_open(w->db, &s, w->ledger);
	while (now_ns() < w->deadline) {
		uint64_t key = own_key(w), begin = now_ns(), version = update(w, &s, key);

		latency_add(&w->latency, now_ns() - begin);
		atomic_store(&w->ledger->entry[key].acked, version);
	}
	db_session_close(&s);
	return NULL;
}

int
run_commit(const struct run_options *o)
{
	struct run_options sync = *o;
	struct ledger l;
	struct worker *w;
	struct db db;
	uint64_t start_ns;
	double s;

	sync.db.sync_commits = true;
	ledger_open(&l, o->ledger);
	db_open(&db, &sync.db);
	start_ns = now_ns();
	w = start(&sync, &db, &l, commit_worker);
	finish(w, o->threads);
	s = seconds_since(start_ns);
	db_close(&db);
	ledger_settle(&l);
	printf("{\"mode\":\"commit\",\"commits\":%llu,\"seconds\":%.3f,\"ops_per_second\":%.1f,"
	       "\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f}\n",
	    (unsigned long long)w->writes, s, (double)w->writes / s, latency_percentile(&w->latency, 50),
	    latency_percentile(&w->latency, 99), latency_percentile(&w->latency, 99.9));
	free(w);
	return 0;
}

struct verdict {
	uint64_t found, missing, stale, future, corrupt, index_wrong;
};

static void
verify_key(struct db_session *s, struct ledger_entry *e, uint64_t key, struct verdict *v)
{
	uint64_t version = 0, acked = atomic_load(&e->acked);
	enum db_found found = db_get(s, key, &version);

	if (found == DB_CORRUPT)
		v->corrupt++;
	else if (found == DB_MISSING)
		v->missing += acked > 0;
	else if (version < acked)
		v->stale++;
	else if (version > atomic_load(&e->issued))
		v->future++;
	v->found += found != DB_MISSING;
	v->index_wrong += !db_index_ok(s, key, found != DB_MISSING);
}

int
run_verify(const struct run_options *o)
{
	struct verdict v = {0};
	struct db_session s;
	struct ledger l;
	struct db db;
	uint64_t rows, index_rows;
	bool ok;

	ledger_open(&l, o->ledger);
	db_open(&db, &o->db);
	db_create_tables(&db); /* a load killed at its start has none */
	db_session_open(&db, &s, &l);
	for (uint64_t key = 0; key < l.records; key++)
		verify_key(&s, &l.entry[key], key, &v);
	rows = db_count(s.records);
	index_rows = db_count(s.index);
	db_session_close(&s);
	db_close(&db);
	ok = v.missing + v.stale + v.future + v.corrupt + v.index_wrong == 0 && rows == v.found &&
	    index_rows == v.found;
	printf("{\"mode\":\"verify\",\"ok\":%s,\"records\":%llu,\"rows\":%llu,\"index_rows\":%llu,\"missing\":%llu,"
	       "\"stale\":%llu,\"future\":%llu,\"corrupt\":%llu,\"index_wrong\":%llu}\n",
	    ok ? "true" : "false", (unsigned long long)l.records, (unsigned long long)rows,
	    (unsigned long long)index_rows, (unsigned long long)v.missing, (unsigned long long)v.stale,
	    (unsigned long long)v.future, (unsigned long long)v.corrupt, (unsigned long long)v.index_wrong);
	return ok ? 0 : EXIT_DATA;
}
