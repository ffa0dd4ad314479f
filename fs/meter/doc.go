// Package meter counts what happens where every nanosecond is paid for by
// each request: latencies and bytes, in fixed buckets of atomics that nothing
// allocates for and nobody locks.
//
// Histogram is one distribution of durations, Operations one for each kind of
// request. Package metrics turns them into what Prometheus reads.
//
// A reader takes no snapshot: it may see an operation counted and its time not
// yet added. No count ever goes back.
package meter
