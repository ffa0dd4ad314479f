/*
 * wtload: a mongod-shaped load on WiredTiger, and its verifier.
 */
#include "die.h"
#include "record.h"
#include "run.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage_text[] =
    "usage: wtload MODE --home DIR --ledger FILE [OPTION…]\n"
    "\n"
    "A load on WiredTiger, configured as mongod does. Prints one JSON object.\n"
    "\n"
    "modes\n"
    "  load    write every record once; a new database and a new ledger\n"
    "  mixed   read and update at random for some seconds\n"
    "  commit  update at random; each commit waits for the disk\n"
    "  verify  compare every record with the ledger; exit 3 if one is wrong or lost\n"
    "\n"
    "options\n"
    "  --home DIR           the database, on the file system under test\n"
    "  --ledger FILE        what was acknowledged; keep it elsewhere\n"
    "  --records N          load: number of records (200000)\n"
    "  --value-size BYTES   load: size of a record (1024)\n"
    "  --seed N             load: what the content derives from (1)\n"
    "  --threads N          (4)\n"
    "  --seconds N          mixed, commit: how long (10)\n"
    "  --read-percent N     mixed: share of reads (50)\n"
    "  --cache-mb N         WiredTiger's cache (64)\n"
    "  --checkpoint N       seconds between checkpoints (5)\n"
    "  --compressor NAME    snappy, zlib or none (snappy)\n";

enum { OPT_HOME = 1000, OPT_LEDGER, OPT_RECORDS, OPT_VALUE, OPT_SEED, OPT_THREADS, OPT_SECONDS, OPT_READS,
	OPT_CACHE, OPT_CHECKPOINT, OPT_COMPRESSOR, OPT_HELP };

static const struct option long_options[] = {
	{"home", required_argument, NULL, OPT_HOME}, {"ledger", required_argument, NULL, OPT_LEDGER},
	{"records", required_argument, NULL, OPT_RECORDS}, {"value-size", required_argument, NULL, OPT_VALUE},
	{"seed", required_argument, NULL, OPT_SEED}, {"threads", required_argument, NULL, OPT_THREADS},
	{"seconds", required_argument, NULL, OPT_SECONDS}, {"read-percent", required_argument, NULL, OPT_READS},
	{"cache-mb", required_argument, NULL, OPT_CACHE}, {"checkpoint", required_argument, NULL, OPT_CHECKPOINT},
	{"compressor", required_argument, NULL, OPT_COMPRESSOR}, {"help", no_argument, NULL, OPT_HELP},
	{NULL, 0, NULL, 0},
};

static void __attribute__((noreturn))
usage(const char *complaint)
{
	fprintf(stderr, "wtload: %s; wtload --help tells more\n", complaint);
	exit(EXIT_USAGE);
}

static uint64_t
number(const char *s, uint64_t low, uint64_t high)
{
	char *end, complaint[128];
	unsigned long long n;

	errno = 0;
	n = strtoull(s, &end, 10);
	if (errno == 0 && end != s && *end == '\0' && *s != '-' && n >= low && n <= high)
		return n;
	snprintf(complaint, sizeof(complaint), "\"%.40s\" is no number from %llu to %llu", s,
	    (unsigned long long)low, (unsigned long long)high);
	usage(complaint);
}

static void
set_option(struct run_options *o, int opt, const char *arg)
{
	switch (opt) {
	case OPT_HOME: o->db.home = arg; break;
	case OPT_LEDGER: o->ledger = arg; break;
	case OPT_RECORDS: o->records = number(arg, 1024, 1 << 30); break;
	case OPT_VALUE: o->value_size = number(arg, RECORD_MIN, RECORD_MAX); break;
	case OPT_SEED: o->seed = number(arg, 0, UINT64_MAX); break;
	case OPT_THREADS: o->threads = (int)number(arg, 1, 128); break;
	case OPT_SECONDS: o->seconds = (int)number(arg, 1, 86400); break;
	case OPT_READS: o->read_percent = (int)number(arg, 0, 100); break;
	case OPT_CACHE: o->db.cache_mb = (int)number(arg, 1, 1 << 20); break;
	case OPT_CHECKPOINT: o->db.checkpoint_seconds = (int)number(arg, 1, 3600); break;
	case OPT_COMPRESSOR:
		if (strcmp(arg, "snappy") != 0 && strcmp(arg, "zlib") != 0 && strcmp(arg, "none") != 0)
			usage("the compressor is snappy, zlib or none");
		o->db.compressor = arg;
		break;
	case OPT_HELP: fputs(usage_text, stdout); exit(0);
	default: usage("unknown option");
	}
}

static int (*
mode_named(const char *name))(const struct run_options *)
{
	static const struct {
		const char *name;
		int (*run)(const struct run_options *);
	} modes[] = {{"load", run_load}, {"mixed", run_mixed}, {"commit", run_commit}, {"verify", run_verify}};

	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (strcmp(name, modes[i].name) == 0)
			return modes[i].run;
	usage("the mode is load, mixed, commit or verify");
}

int
main(int argc, char **argv)
{
	struct run_options o = {.db = {.compressor = "snappy", .cache_mb = 64, .checkpoint_seconds = 5},
	    .seed = 1, .records = 200000, .value_size = 1024, .threads = 4, .seconds = 10, .read_percent = 50};
	int opt;

	opterr = 0;
	while ((opt = getopt_long(argc, argv, "", long_options, NULL)) != -1)
		set_option(&o, opt, optarg);
	if (optind != argc - 1)
		usage("one mode is needed");
	int (*run)(const struct run_options *) = mode_named(argv[optind]);
	if (o.db.home == NULL || o.ledger == NULL)
		usage("--home and --ledger are needed");
	return run(&o);
}
