#include "latency.h"

#include <time.h>

uint64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

/* Below LATENCY_SUB a bucket is one value; above, 32 buckets for each power of two. */
static unsigned
bucket_of(uint64_t ns)
{
	if (ns < LATENCY_SUB)
		return (unsigned)ns;
	unsigned shift = 63 - (unsigned)__builtin_clzll(ns) - 5;
	return (shift + 1) * LATENCY_SUB + (unsigned)((ns >> shift) - LATENCY_SUB);
}

static uint64_t
value_of(unsigned bucket)
{
	if (bucket < LATENCY_SUB)
		return bucket;
	unsigned shift = bucket / LATENCY_SUB - 1;
	return ((uint64_t)(bucket % LATENCY_SUB) + LATENCY_SUB) << shift;
}

void
latency_add(struct latency *l, uint64_t ns)
{
	l->count++;
	l->bucket[bucket_of(ns)]++;
}

void
latency_merge(struct latency *into, const struct latency *from)
{
	into->count += from->count;
	for (unsigned i = 0; i < LATENCY_BUCKETS; i++)
		into->bucket[i] += from->bucket[i];
}

double
latency_percentile(const struct latency *l, double p)
{
	uint64_t want = (uint64_t)((double)l->count * p / 100), seen = 0;

	for (unsigned i = 0; i < LATENCY_BUCKETS; i++) {
		seen += l->bucket[i];
		if (seen > want || (seen == l->count && seen > 0))
			return (double)value_of(i) / 1000;
	}
	return 0;
}
