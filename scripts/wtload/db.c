#include "db.h"

#include "die.h"
#include "record.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef WT_EXTENSION_DIR
#error "WT_EXTENSION_DIR is where libwiredtiger_snappy.so lies"
#endif

#define RECORDS_URI "table:records"
#define INDEX_URI "table:index"

static void
check(int ret, const char *what)
{
	if (ret != 0)
		die("%s: %s", what, wiredtiger_strerror(ret));
}

static void
make_dir(const char *path)
{
	if (mkdir(path, 0700) != 0 && errno != EEXIST)
		die_errno("mkdir %s", path);
}

/* extension writes the configuration that loads a compressor, "" for none. */
static void
extension(char *out, size_t size, const char *compressor)
{
	char path[512];

	out[0] = '\0';
	if (strcmp(compressor, "none") == 0)
		return;
	snprintf(path, sizeof(path), WT_EXTENSION_DIR "/libwiredtiger_%s.so", compressor);
	if (access(path, R_OK) != 0)
		die_errno("compressor %s: %s", compressor, path);
	snprintf(out, size, "extensions=[%s],", path);
}

void
db_open(struct db *db, const struct db_options *o)
{
	char config[2048], ext[600], journal[4096];

	make_dir(o->home);
	snprintf(journal, sizeof(journal), "%s/journal", o->home);
	make_dir(journal);
	extension(ext, sizeof(ext), o->compressor);
	snprintf(config, sizeof(config),
	    "create,cache_size=%dMB,session_max=1000,eviction=(threads_min=4,threads_max=4),"
	    "statistics=(fast),%s"
	    "log=(enabled=true,archive=true,path=journal,compressor=%s),"
	    "file_manager=(close_idle_time=600,close_scan_interval=10,close_handle_minimum=250),"
	    "checkpoint=(wait=%d,log_size=2GB),transaction_sync=(enabled=%s,method=fsync)",
	    o->cache_mb, ext, o->compressor, o->checkpoint_seconds, o->sync_commits ? "true" : "false");
	check(wiredtiger_open(o->home, NULL, config, &db->conn), "open");
	db->compressor = o->compressor;
}

void
db_close(struct db *db)
{
	check(db->conn->close(db->conn, NULL), "close");
}

void
db_create_tables(struct db *db)
{
	char config[512];
	WT_SESSION *s;

	check(db->conn->open_session(db->conn, NULL, NULL, &s), "session");
	snprintf(config, sizeof(config),
	    "key_format=q,value_format=u,memory_page_max=10m,split_pct=90,leaf_value_max=64MB,"
	    "checksum=on,block_compressor=%s", db->compressor);
	check(s->create(s, RECORDS_URI, config), "create records");
	check(s->create(s, INDEX_URI,
	    "key_format=S,value_format=q,memory_page_max=5m,leaf_page_max=16k,prefix_compression=true"),
	    "create index");
	check(s->close(s, NULL), "close session");
}

void
db_session_open(struct db *db, struct db_session *s, const struct ledger *l)
{
	*s = (struct db_session){.seed = l->seed, .value_size = l->value_size};
	s->value = malloc(l->value_size);
	s->scratch = malloc(l->value_size);
	if (s->value == NULL || s->scratch == NULL)
		die_errno("memory");
	check(db->conn->open_session(db->conn, NULL, "isolation=snapshot", &s->session), "session");
	check(s->session->open_cursor(s->session, RECORDS_URI, NULL, NULL, &s->records), "records");
	check(s->session->open_cursor(s->session, INDEX_URI, NULL, NULL, &s->index), "index");
}

void
db_session_close(struct db_session *s)
{
	check(s->session->close(s->session, NULL), "close session");
	free(s->value);
	free(s->scratch);
}

static int
put_index(struct db_session *s, uint64_t key)
{
	char name[INDEX_KEY_LEN + 1];

	record_index_key(name, s->seed, key);
	s->index->set_key(s->index, name);
	s->index->set_value(s->index, (int64_t)key);
	return s->index->insert(s->index);
}

static int
put_once(struct db_session *s, uint64_t key, bool with_index)
{
	WT_ITEM item = {.data = s->value, .size = s->value_size};
	int ret;

	if ((ret = s->session->begin_transaction(s->session, NULL)) != 0)
		return ret;
	s->records->set_key(s->records, (int64_t)key);
	s->records->set_value(s->records, &item);
	ret = s->records->insert(s->records); /* overwrites */
	if (ret == 0 && with_index)
		ret = put_index(s, key);
	if (ret == 0)
		return s->session->commit_transaction(s->session, NULL);
	if (ret == WT_ROLLBACK)
		check(s->session->rollback_transaction(s->session, NULL), "rollback");
	return ret;
}

void
db_put(struct db_session *s, uint64_t key, uint64_t version, bool with_index)
{
	int ret;

	record_fill(s->value, s->value_size, s->seed, key, version);
	while ((ret = put_once(s, key, with_index)) == WT_ROLLBACK)
		;
	check(ret, "write");
}

enum db_found
db_get(struct db_session *s, uint64_t key, uint64_t *version)
{
	enum db_found found = DB_CORRUPT;
	WT_ITEM item;
	int ret;

	s->records->set_key(s->records, (int64_t)key);
	while ((ret = s->records->search(s->records)) == WT_ROLLBACK)
		s->records->set_key(s->records, (int64_t)key);
	if (ret == WT_NOTFOUND)
		return DB_MISSING;
	check(ret, "read");
	check(s->records->get_value(s->records, &item), "read value");
	if (item.size == s->value_size &&
	    record_check(item.data, item.size, s->seed, key, version, s->scratch))
		found = DB_FOUND;
	check(s->records->reset(s->records), "reset");
	return found;
}

bool
db_index_ok(struct db_session *s, uint64_t key, bool present)
{
	char name[INDEX_KEY_LEN + 1];
	int64_t target = -1;
	int ret;

	record_index_key(name, s->seed, key);
	s->index->set_key(s->index, name);
	if ((ret = s->index->search(s->index)) == WT_NOTFOUND)
		return !present;
	check(ret, "read index");
	check(s->index->get_value(s->index, &target), "read index value");
	check(s->index->reset(s->index), "reset");
	return present && target == (int64_t)key;
}

uint64_t
db_count(WT_CURSOR *c)
{
	uint64_t n = 0;
	int ret;

	while ((ret = c->next(c)) == 0)
		n++;
	if (ret != WT_NOTFOUND)
		check(ret, "scan");
	check(c->reset(c), "reset");
	return n;
}
