//go:build integration

package integration

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// footprint is what a daemon holds while nobody uses its mount.
type footprint struct {
	at                        time.Time
	heap, resident            float64 // bytes
	goroutines, files, opened int
}

func (f footprint) String() string {
	return fmt.Sprintf("heap %.1f MiB, resident %.1f MiB, %d goroutines, %d descriptors, %d open files",
		f.heap/(1<<20), f.resident/(1<<20), f.goroutines, f.files, f.opened)
}

// life is what a daemon held when its life began and when it ended.
type life struct {
	began, ended footprint
	lasted       time.Duration
}

// What a daemon may hold more in the end than in the beginning: some readers
// wait for requests, with a buffer of 1 MiB each, and connections to the control
// socket end a moment later.
const (
	moreGoroutines = 24
	moreFiles      = 8
	moreHeap       = 16 << 20
)

// footprint has the volume locked and unlocked, which drops caches and
// collects garbage, and measures; again and again, since buffers that are kept
// for use again go with a later collection.
func (e *endurance) footprint() (least footprint) {
	e.t.Helper()
	for i := range 4 {
		e.run(e.a.Command("lock", e.a.Dir()))
		e.run(e.a.Command("unlock", e.a.Dir()))
		e.eventually("no file is open", func() bool { return e.status().Stats.OpenFiles == 0 })
		if f := e.measure(); i == 0 || f.heap < least.heap {
			least = f
		}
	}
	return least
}

func (e *endurance) measure() footprint {
	m := e.scrape()
	return footprint{
		at: time.Now(), heap: m["go_memstats_heap_alloc_bytes"], resident: m["process_resident_memory_bytes"],
		goroutines: int(m["go_goroutines"]), files: int(m["process_open_fds"]), opened: e.status().Stats.OpenFiles,
	}
}

// scrape reads the metrics without labels.
func (e *endurance) scrape() map[string]float64 {
	e.t.Helper()
	dir, err := os.Open(filepath.Join(e.disk.Dir, "run"))
	e.must(err)
	defer dir.Close()
	// The path itself may be too long for a socket's.
	socket := fmt.Sprintf("/proc/self/fd/%d/%s.metrics.sock", dir.Fd(), e.status().VolumeID)
	client := http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	answer, err := client.Get("http://akvfs/metrics")
	e.must(err)
	defer answer.Body.Close()
	m := map[string]float64{}
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		name, value, ok := strings.Cut(lines.Text(), " ")
		if x, err := strconv.ParseFloat(value, 64); ok && err == nil {
			m[name] = x
		}
	}
	return m
}

// comparable wants a daemon to end as it began.
func (e *endurance) comparable(l life) {
	e.t.Helper()
	if l.ended.goroutines > l.began.goroutines+moreGoroutines {
		e.t.Errorf("goroutines: %v, in the end %v", l.began, l.ended)
	}
	if l.ended.files > l.began.files+moreFiles {
		e.t.Errorf("descriptors: %v, in the end %v", l.began, l.ended)
	}
	if l.ended.heap > l.began.heap+moreHeap {
		e.t.Errorf("memory: %v, in the end %v", l.began, l.ended)
	}
}
