package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		samples []float64
		want    float64
	}{
		{nil, 0}, {[]float64{4}, 4}, {[]float64{9, 1}, 5}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 3, 2}, 2.5},
	} {
		before := slices.Clone(tt.samples)
		if got := median(tt.samples); got != tt.want {
			t.Errorf("median(%v) = %v, want %v", tt.samples, got, tt.want)
		}
		if !slices.Equal(before, tt.samples) {
			t.Errorf("median reorders its input: %v", tt.samples)
		}
	}
}

// TestMedianSplits: as many samples lie below as above.
func TestMedianSplits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		samples := rapid.SliceOfN(rapid.Float64Range(0, 1e9), 1, 50).Draw(t, "samples")
		m := median(samples)
		below, above := 0, 0
		for _, s := range samples {
			if s < m {
				below++
			}
			if s > m {
				above++
			}
		}
		if below > len(samples)/2 || above > len(samples)/2 {
			t.Fatalf("median %v of %v: %d below, %d above", m, samples, below, above)
		}
	})
}

// TestRotated: each comes first in its turn, and none is left out.
func TestRotated(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfNDistinct(rapid.Int(), 1, 6, rapid.ID).Draw(t, "all")
		turn := rapid.IntRange(0, 100).Draw(t, "turn")
		got := rotated(all, turn)
		if got[0] != all[turn%len(all)] || len(got) != len(all) {
			t.Fatalf("turn %d of %v is %v", turn, all, got)
		}
		for _, v := range all {
			if !slices.Contains(got, v) {
				t.Fatalf("%v has lost %v", got, v)
			}
		}
	})
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0: "0.00", 1.234: "1.23", 12.34: "12.3", 123.4: "123", 1234: "1,234", 1234567: "1,234,567"} {
		if got := number(v); got != want {
			t.Errorf("number(%v) = %q, want %q", v, got, want)
		}
	}
}

func TestParsePeak(t *testing.T) {
	for _, tt := range []struct {
		status string
		want   float64
		ok     bool
	}{
		{"Name:\tx\nVmPeak:\t 9999 kB\nVmHWM:\t  2048 kB\nVmRSS:\t 1 kB\n", 2, true},
		{"Name:\tx\n", 0, false},
		{"VmHWM:\t x kB\n", 0, false},
		{"VmHWM:\t 5 MB\n", 0, false},
	} {
		if got, ok := parseMemory(tt.status, "VmHWM:"); got != tt.want || ok != tt.ok {
			t.Errorf("parseMemory(%q) = %v, %v", tt.status, got, ok)
		}
	}
	if got, ok := peakMemory(os.Getpid()); !ok || got < 1 {
		t.Errorf("this process's peak is %v, %v", got, ok)
	}
	if _, ok := peakMemory(0); ok {
		t.Error("no daemon has a peak")
	}
}

const fioOutput = `{"fio version":"fio-3.33","jobs":[{"jobname":"job","error":0,
	"read":{"total_ios":0,"iops":0,"bw_bytes":0},
	"write":{"total_ios":5000,"iops":1250.5,"bw_bytes":5242880},
	"sync":{"total_ios":4999,"lat_ns":{"min":1,"percentile":{"50.000000":250000,"99.000000":1500000,"99.900000":2500000}}}}]}`

func TestParseFio(t *testing.T) {
	j, err := parseFio([]byte(fioOutput))
	if err != nil {
		t.Fatal(err)
	}
	want := []sample{{"", "/s", 1250.5}, {"sync median", "µs", 250}, {"sync p99", "µs", 1500}, {"sync p99.9", "µs", 2500}}
	if got, err := j.synced(nil); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("synced: %v, %v", got, err)
	}
	if got, err := j.rate(nil, j.writeSide()); err != nil || got[0] != (sample{"", "MiB/s", 5}) {
		t.Errorf("rate: %v, %v", got, err)
	}
	if _, err := j.ops(nil, j.readSide()); err == nil {
		t.Error("a job that read nothing passes for one")
	}
	if _, err := (*fioJob)(nil).synced(os.ErrNotExist); err == nil {
		t.Error("fio's failure is lost")
	}
}

func TestParseFioRefuses(t *testing.T) {
	for name, out := range map[string]string{
		"nothing":    ``,
		"a warning":  `fio: something` + fioOutput,
		"no job":     `{"jobs":[]}`,
		"two groups": `{"jobs":[{},{}]}`,
		"an error":   strings.Replace(fioOutput, `"error":0`, `"error":28`, 1),
	} {
		if j, err := parseFio([]byte(out)); err == nil {
			t.Errorf("%s: %+v", name, j)
		}
	}
	j, err := parseFio([]byte(strings.Replace(fioOutput, "99.000000", "98.000000", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.synced(nil); err == nil {
		t.Error("a missing percentile is not noticed")
	}
}

func TestParseOps(t *testing.T) {
	got, err := parseOps("commit", `{"mode":"commit","ops_per_second":10.5,"p50_us":3,"p99_us":4}`)
	want := []sample{{"commit", "/s", 10.5}, {"commit median", "µs", 3}, {"commit p99", "µs", 4}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	got, err = parseOps("", `{"ops_per_second":7}`)
	if err != nil || !reflect.DeepEqual(got, []sample{{"", "/s", 7}}) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{``, `{}`, `{"ops_per_second":0}`, `[]`} {
		if got, err := parseOps("", bad); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

func TestParsePgbench(t *testing.T) {
	got, err := parsePgbench("number of clients: 4\nlatency average = 3.1 ms\ntps = 1266.123456 (without initial connection time)\n")
	if err != nil || got[0] != (sample{"", "/s", 1266.123456}) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "tps = \n", "tps = 0.000000\n"} {
		if got, err := parsePgbench(bad); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

func testReport() *report {
	c := &config{systems: []string{"bare", "akvfs", "gocryptfs"}, rounds: 2}
	r := newReport(c, machine{CPU: "a CPU", Cores: 2, FileSystem: "ext4"})
	for _, v := range []float64{100, 200} {
		r.add("bare", "append1", []sample{{"", "/s", v}}, nil)
		r.add("akvfs", "append1", []sample{{"", "/s", 3 * v}, {"memory", "MiB", v / 10}}, nil)
		r.add("gocryptfs", "append1", []sample{{"", "/s", v / 2}, {"memory", "MiB", 50}}, nil)
	}
	r.finish()
	return r
}

func TestReportRatios(t *testing.T) {
	res := testReport().find("append1", "")
	want := map[string]float64{"akvfs/bare": 3, "akvfs/gocryptfs": 6, "gocryptfs/bare": 0.5}
	if !reflect.DeepEqual(res.Ratio, want) {
		t.Errorf("ratios %v, want %v", res.Ratio, want)
	}
}

func TestReportTable(t *testing.T) {
	_, got, _ := strings.Cut(testReport().table(), "| load")
	want := ` | unit | ext4 | akvfs | gocryptfs | akvfs/bare | akvfs/gocryptfs | gocryptfs/bare |
|---|---|--:|--:|--:|--:|--:|--:|
| append 4 KiB + fdatasync, 1 job | per s | 150 (100–200) | 450 (300–600) | 75.0 (50.0–100) | 3.00 | 6.00 | 0.50 |
| append 4 KiB + fdatasync, 1 job: memory | MiB | – | 15.0 (10.0–20.0) | 50.0 (50.0–50.0) |  |  |  |
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestReportColumns: of a load without ratios, too, every line of the table has
// as many columns as there are systems and ratios.
func TestReportColumns(t *testing.T) {
	for _, systems := range [][]string{{"akvfs"}, {"bare"}, {"bare", "akvfs"}, {"bare", "akvfs", "gocryptfs"}} {
		r := newReport(&config{systems: systems, rounds: 1}, machine{})
		for _, system := range systems {
			r.add(system, "snapshot", []sample{{"create", "s", 1}}, nil)
		}
		r.finish()
		_, table, _ := strings.Cut(r.table(), "\n|")
		for line := range strings.Lines("|" + table) {
			if got, want := strings.Count(line, "|"), 3+len(systems)+len(r.ratios()); got != want {
				t.Errorf("%v: %d and not %d bars in %s", systems, got, want, line)
			}
		}
	}
}

// TestReportFailures: a peer's failure is told, ours or the bare disk's ends in an error.
func TestReportFailures(t *testing.T) {
	for system, fatal := range map[string]bool{"bare": true, "akvfs": true, "gocryptfs": false, "passthrough": false} {
		r := testReport()
		r.add(system, "sqlite", nil, os.ErrPermission)
		if err := r.failed(); (err != nil) != fatal {
			t.Errorf("%s failed: %v", system, err)
		}
		if want := "sqlite failed on " + system; !strings.Contains(r.table(), want) {
			t.Errorf("the table does not say %q", want)
		}
		if r.find("sqlite", "") != nil {
			t.Errorf("%s: a failed load has a result", system)
		}
	}
}

func TestReportWrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "bench.json")
	if err := testReport().write(path); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var back report
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if m := back.find("append1", "").Median["akvfs"]; math.Abs(m-450) > 1e-9 {
		t.Errorf("median %v in the file", m)
	}
}

func TestParseArguments(t *testing.T) {
	c, err := parse([]string{"-quick", "-loads", "append1,sqlite", "-passthrough", "x {backing} {mount}", "-seconds", "7"})
	if err != nil {
		t.Fatal(err)
	}
	if c.rounds != 1 || c.params.Seconds != 7 || c.params.Records != 50000 || !slices.Contains(c.systems, "passthrough") || len(c.loads) != 2 {
		t.Errorf("%+v", c)
	}
	for _, bad := range [][]string{
		{"-loads", "nosuch"}, {"-fs", "zfs"}, {"-fs", ""}, {"-loads", ","}, {"-rounds", "-1"}, {"-seconds", "-5"}, {"-records", "10"}, {"extra"}, {"-nosuch"},
	} {
		if c, err := parse(bad); err == nil {
			t.Errorf("%q: %+v", bad, c)
		}
	}
}

func TestLoadsAreNamedOnce(t *testing.T) {
	names := loadNames()
	slices.Sort(names)
	if len(slices.Compact(names)) != len(loads()) {
		t.Errorf("two loads share a name: %v", names)
	}
}

func TestDescribe(t *testing.T) {
	m := describe(t.TempDir())
	if m.Cores < 1 || m.MemoryMiB < 1 || m.Kernel == "" || m.FileSystem == "" || m.Versions["go"] == "" {
		t.Errorf("%+v", m)
	}
}

// TestPlots: what a sweep has measured comes out as SVG, curve by curve.
func TestPlots(t *testing.T) {
	r := newReport(&config{systems: []string{"bare", "akvfs"}}, machine{FileSystem: "ext4"})
	for i, system := range []string{"bare", "akvfs"} {
		var threads, sizes []sample
		for _, n := range sweptThreads {
			threads = append(threads, sample{at(n, ""), "/s", float64(1000*n + i)}, sample{at(n, "sync median"), "µs", 200},
				sample{at(n, "sync p99"), "µs", 900}, sample{at(n, "sync p99.9"), "µs", 5000})
		}
		for _, n := range sweptMiB {
			sizes = append(sizes, sample{at(n, ""), "MiB/s", 500})
		}
		r.add(system, sweepThreads, threads, nil)
		r.add(system, sweepSizes, sizes, nil)
	}
	r.finish()
	dir := t.TempDir()
	if err := r.plotFiles(dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"threads.svg", "fsync.svg", "read.svg"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"<svg", "ext4", "akvfs"} {
			if !strings.Contains(string(data), want) {
				t.Errorf("%s has no %q", name, want)
			}
		}
	}
}
