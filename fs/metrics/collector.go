package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/akvfs/akvfs/fs/alert"
	"github.com/akvfs/akvfs/fs/meter"
)

// described are the metrics that a scrape makes out of a snapshot.
type described struct {
	info, state, mounted                                    *prometheus.Desc
	keyState, keyWrapped, keyChecked, keyExpires            *prometheus.Desc
	masterCreated, masterActive, credentialExpires          *prometheus.Desc
	latency, failures, read, written                        *prometheus.Desc
	journalUsed, journalCapacity, journalFailed, commits    *prometheus.Desc
	journalFrames, journalRecords, journalBytes             *prometheus.Desc
	cacheHits, cacheMisses, integrity, writeFailures        *prometheus.Desc
	scrubRunning, scrubRead, scrubFindings, scrubFinished   *prometheus.Desc
	awake                                                   *prometheus.Desc
	pending, openFiles, alertFiring, hookRuns, hooksDropped *prometheus.Desc
}

func describe() described {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("akvfs_"+name, help, labels, nil)
	}
	return described{
		info:    d("volume_info", "The volume that is mounted: always 1.", "cluster", "mountpoint"),
		state:   d("volume_state", "1 for the state that the volume is in, else 0.", "state"),
		mounted: d("mounted_timestamp_seconds", "When the volume was mounted."),

		keyState:          d("key_state", "1 for the state that the last check found a key in, else 0.", "key_id", "state"),
		keyWrapped:        d("key_wrapped_timestamp_seconds", "When the master key was wrapped by this version of a key: its last rotation.", "key_id", "version"),
		keyChecked:        d("key_checked_timestamp_seconds", "When a key was checked last.", "key_id"),
		keyExpires:        d("key_expiry_timestamp_seconds", "When a key expires, where the vault has told.", "key_id"),
		masterCreated:     d("master_key_created_timestamp_seconds", "When a master key was made.", "master_key"),
		masterActive:      d("master_key_active", "1 for the master key that wraps new file keys, 0 for one that only old files need.", "master_key"),
		credentialExpires: d("credential_expiry_timestamp_seconds", "When the client secret or certificate expires, where that is known."),

		latency:  d("operation_duration_seconds", "How long requests of the kernel took, by kind.", "operation"),
		failures: d("operation_failures_total", "Requests answered with EIO, ENOSPC, EDQUOT or ENOKEY.", "operation"),
		read:     d("read_bytes_total", "Bytes that readers were given."),
		written:  d("written_bytes_total", "Bytes that were taken from writers."),

		journalUsed:     d("journal_used_bytes", "Bytes of the journal that recovery would need."),
		journalCapacity: d("journal_capacity_bytes", "Bytes that the journal holds."),
		journalFailed:   d("journal_failed", "1 if a write to the journal failed: the volume takes no more writes until it is mounted anew."),
		commits:         d("journal_commit_duration_seconds", "How long it took to make a frame of the journal durable."),
		journalFrames:   d("journal_frames_total", "Frames written to the journal."),
		journalRecords:  d("journal_records_total", "Records in them: records a frame tells how well commits are grouped."),
		journalBytes:    d("journal_written_bytes_total", "Bytes written to the journal."),

		cacheHits:     d("tag_page_cache_hits_total", "Tag pages found in memory."),
		cacheMisses:   d("tag_page_cache_misses_total", "Tag pages that had to be read and verified."),
		integrity:     d("integrity_errors_total", "Times that the backing directory returned what was never written there."),
		writeFailures: d("write_failures_total", "Background commits and checkpoints that failed."),
		pending:       d("pending_bytes", "Bytes in memory that are not at home in the backing directory yet."),
		openFiles:     d("open_files", "Files that are open."),

		scrubRunning:  d("scrub_running", "1 while a scrub reads and proves the volume, else 0."),
		scrubRead:     d("scrub_read_bytes_total", "Bytes that scrubs have read."),
		scrubFindings: d("scrub_findings", "What the last scrub has found to be damaged, and the one that runs."),
		scrubFinished: d("scrub_finished_timestamp_seconds", "When a scrub came to its end last."),

		awake: d("processors_awake_seconds_total", "For how long processors were kept from deep sleep because requests came thick and fast."),

		alertFiring:  d("alert_firing", "1 while an alert fires, else 0.", "alert", "severity"),
		hookRuns:     d("alert_hook_runs_total", "Runs of the on-alert command.", "result"),
		hooksDropped: d("alert_hook_dropped_total", "Events that the on-alert command was not run for."),
	}
}

// collector makes metrics of a snapshot at each scrape.
type collector struct {
	described
	info     Info
	snapshot func() Snapshot
	ops      *meter.Operations
}

// Describe sends no description, which makes the collector an unchecked one:
// what it collects is checked at each scrape instead.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect sends every sample.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	s, out := c.snapshot(), samples(to)
	out.gauge(c.described.info, 1, c.info.Cluster, c.info.Mountpoint)
	for _, state := range c.info.States {
		out.gauge(c.state, truth(s.State == state), state)
	}
	out.at(c.mounted, s.Mounted)
	c.keys(out, s)
	c.operations(out)
	c.engine(out, s)
	c.alerts(out, s)
}

func (c *collector) keys(out samples, s Snapshot) {
	for _, k := range s.Keys {
		for _, state := range c.info.KeyStates {
			out.gauge(c.keyState, truth(k.State == state), k.ID, state)
		}
		out.at(c.keyWrapped, k.Wrapped, k.ID, k.Version)
		out.at(c.keyChecked, k.Checked, k.ID)
		out.at(c.keyExpires, k.Expires, k.ID)
	}
	for _, m := range s.MasterKeys {
		out.at(c.masterCreated, m.Created, m.ID)
		out.gauge(c.masterActive, truth(m.Active), m.ID)
	}
	out.at(c.credentialExpires, s.CredentialExpires)
}

func (c *collector) operations(out samples) {
	for _, k := range meter.Kinds() {
		out.histogram(c.latency, c.ops.Latency(k), k.String())
		out.counter(c.failures, c.ops.Failed(k), k.String())
	}
	read, written := c.ops.Bytes()
	out.counter(c.read, read)
	out.counter(c.written, written)
}

func (c *collector) engine(out samples, s Snapshot) {
	j := s.Stats.Journal
	out.gauge(c.journalUsed, float64(j.Used))
	out.gauge(c.journalCapacity, float64(j.Capacity))
	out.gauge(c.journalFailed, truth(j.Failed))
	out.histogram(c.commits, j.Writes)
	out.counter(c.journalFrames, j.Frames)
	out.counter(c.journalRecords, j.Records)
	out.counter(c.journalBytes, j.Bytes)
	out.counter(c.cacheHits, s.Stats.CacheHits)
	out.counter(c.cacheMisses, s.Stats.CacheMisses)
	out.counter(c.integrity, s.Stats.IntegrityErrors)
	out.counter(c.writeFailures, s.Stats.WriteFailures)
	out.gauge(c.pending, float64(s.Stats.PendingBytes))
	out.gauge(c.openFiles, float64(s.Stats.OpenFiles))
	out.gauge(c.scrubRunning, truth(s.Scrub.Running))
	out.counter(c.scrubRead, s.Scrub.Read)
	out.gauge(c.scrubFindings, float64(s.Scrub.Findings))
	out.at(c.scrubFinished, s.Scrub.Finished)
	out.seconds(c.awake, s.Awake)
}

func (c *collector) alerts(out samples, s Snapshot) {
	firing := make(map[alert.Name]bool)
	for _, a := range s.Alerts {
		firing[a.Name] = true
	}
	for _, k := range alert.Known() {
		out.gauge(c.alertFiring, truth(firing[k.Name]), string(k.Name), string(k.Severity))
	}
	out.counter(c.hookRuns, s.Hook.OK, "ok")
	out.counter(c.hookRuns, s.Hook.Failed, "failed")
	out.counter(c.hookRuns, s.Hook.TimedOut, "timed-out")
	out.counter(c.hooksDropped, s.Hook.Dropped)
}

// samples is where a scrape's samples go.
type samples chan<- prometheus.Metric

func (s samples) gauge(d *prometheus.Desc, v float64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (s samples) counter(d *prometheus.Desc, n uint64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
}

// seconds is a counter of time.
func (s samples) seconds(d *prometheus.Desc, t time.Duration) {
	s <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, t.Seconds())
}

// at is the gauge of a time, if that is known.
func (s samples) at(d *prometheus.Desc, t time.Time, labels ...string) {
	if !t.IsZero() {
		s.gauge(d, float64(t.UnixMilli())/1000, labels...)
	}
}

func (s samples) histogram(d *prometheus.Desc, v meter.Distribution, labels ...string) {
	buckets := make(map[float64]uint64, meter.Buckets)
	for i, n := range v.Cumulative {
		buckets[meter.Bound(i).Seconds()] = n
	}
	s <- prometheus.MustNewConstHistogram(d, v.Count, v.Sum.Seconds(), buckets, labels...)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
