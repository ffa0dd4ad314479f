package metrics

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/akvfs/akvfs/fs/alert"
	"github.com/akvfs/akvfs/fs/meter"
)

// Results of recorded operations.
const (
	resultOK     = "ok"
	resultFailed = "failed"
)

// Exporter is what one mounted volume offers. Its methods are safe for
// concurrent use.
type Exporter struct {
	registry *prometheus.Registry

	checks        *prometheus.CounterVec
	checkLatency  *prometheus.HistogramVec
	keyOperations *prometheus.CounterVec
	alertChanges  *prometheus.CounterVec
	auditLines    *prometheus.CounterVec
}

// New makes an exporter. snapshot is called at each scrape.
func New(info Info, ops *meter.Operations, snapshot func() Snapshot) *Exporter {
	e := &Exporter{
		registry:      prometheus.NewRegistry(),
		checks:        counters("key_checks_total", "Checks of a key by what they found.", "key_id", "result"),
		keyOperations: counters("key_operations_total", "Things done with keys, checks aside: rotations, additions, removals.", "action", "result"),
		alertChanges:  counters("alert_changes_total", "Times that an alert began or ended.", "alert", "state"),
		auditLines:    counters("audit_lines_total", "Lines for the audit log, by whether they could be written.", "result"),
		checkLatency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "akvfs_key_check_duration_seconds", Help: "How long checks of a key took, retries included.",
			Buckets: prometheus.ExponentialBuckets(0.002, 2, 15),
		}, []string{"result"}),
	}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "akvfs_build_info", Help: "The program: always 1.",
	}, []string{"version", "goversion"})
	build.WithLabelValues(info.Version, runtime.Version()).Set(1)
	for _, result := range []string{resultOK, resultFailed} {
		e.auditLines.WithLabelValues(result)
	}
	e.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	prometheus.WrapRegistererWith(prometheus.Labels{"volume": info.Volume}, e.registry).MustRegister(
		build, e.checks, e.checkLatency, e.keyOperations, e.alertChanges, e.auditLines,
		&collector{describe(), info, snapshot, ops},
	)
	return e
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "akvfs_" + name, Help: help}, labels)
}

// Check records one check of a key. result is the state that it found.
func (e *Exporter) Check(keyID, result string, took time.Duration) {
	e.checks.WithLabelValues(keyID, result).Inc()
	e.checkLatency.WithLabelValues(result).Observe(took.Seconds())
}

// KeyOperation records something else that was done with a key.
func (e *Exporter) KeyOperation(action string, ok bool) {
	e.keyOperations.WithLabelValues(action, result(ok)).Inc()
}

// Alert records a change; it is a sink of an alert.Board.
func (e *Exporter) Alert(event alert.Event) {
	e.alertChanges.WithLabelValues(string(event.Name), string(event.State)).Inc()
}

// Audit records a line of the audit log.
func (e *Exporter) Audit(ok bool) { e.auditLines.WithLabelValues(result(ok)).Inc() }

func result(ok bool) string {
	if ok {
		return resultOK
	}
	return resultFailed
}
