/*
 * latency: a histogram of durations with 1/32 relative resolution, one per
 * thread, merged at the end.
 */
#ifndef WTLOAD_LATENCY_H
#define WTLOAD_LATENCY_H

#include <stdint.h>

enum { LATENCY_SUB = 32, LATENCY_BUCKETS = 64 * LATENCY_SUB };

struct latency {
	uint64_t count, bucket[LATENCY_BUCKETS];
};

uint64_t now_ns(void); /* CLOCK_MONOTONIC */
void latency_add(struct latency *l, uint64_t ns);
void latency_merge(struct latency *into, const struct latency *from);

/* latency_percentile answers in microseconds, 0 when nothing was added; p is 0 to 100. */
double latency_percentile(const struct latency *l, double p);

#endif
