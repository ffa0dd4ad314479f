package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// result is one metric of one load, on every file system.
type result struct {
	Load    string               `json:"load"`
	Metric  string               `json:"metric"` // "" for the load's own
	Unit    string               `json:"unit"`
	Samples map[string][]float64 `json:"samples"` // by file system, in the order of the rounds
	Median  map[string]float64   `json:"median"`
	Ratio   map[string]float64   `json:"ratio"` // of medians, "akvfs/bare" for instance
}

// report is all that is written.
type report struct {
	Started    time.Time `json:"started"`
	Seconds    float64   `json:"duration_seconds"`
	Note       string    `json:"note,omitempty"`
	Machine    machine   `json:"machine"`
	Parameters params    `json:"parameters"`
	Rounds     int       `json:"rounds"`
	Options    []string  `json:"mount_options,omitempty"`
	Systems    []string  `json:"systems"`
	Results    []*result `json:"results"`
	Failures   []failure `json:"failures,omitempty"`
}

// failure is a load that did not run to its end.
type failure struct {
	System string `json:"system"`
	Load   string `json:"load"`
	Error  string `json:"error"`
}

func newReport(c *config, m machine) *report {
	return &report{Started: time.Now().UTC().Truncate(time.Second), Note: c.note, Machine: m, Parameters: c.params, Rounds: c.rounds,
		Options: c.mountOptions, Systems: c.systems}
}

// awake is a sentence on it for the head of a table.
func (p params) awake() string {
	if p.Awake {
		return " Processors were kept awake throughout."
	}
	return ""
}

// add notes what a load measured, or that it failed: a peer that fails is no
// reason to lose the rest.
func (r *report) add(system, load string, samples []sample, err error) {
	if err != nil {
		r.Failures = append(r.Failures, failure{system, load, err.Error()})
		return
	}
	for _, s := range samples {
		res := r.find(load, s.Metric)
		if res == nil {
			res = &result{Load: load, Metric: s.Metric, Unit: s.Unit, Samples: map[string][]float64{}}
			r.Results = append(r.Results, res)
		}
		res.Samples[system] = append(res.Samples[system], s.Value)
	}
}

func (r *report) find(load, metric string) *result {
	for _, res := range r.Results {
		if res.Load == load && res.Metric == metric {
			return res
		}
	}
	return nil
}

// finish computes medians and the ratios of akvfs and the pass-through to the
// others.
func (r *report) finish() {
	r.Seconds = math.Round(time.Since(r.Started).Seconds())
	for _, res := range r.Results {
		res.Median, res.Ratio = map[string]float64{}, map[string]float64{}
		for system, samples := range res.Samples {
			res.Median[system] = median(samples)
		}
		for _, of := range []string{"akvfs", "passthrough", "gocryptfs"} {
			for _, to := range []string{"bare", "gocryptfs"} {
				a, okA := res.Median[of]
				b, okB := res.Median[to]
				if okA && okB && of != to && b > 0 {
					res.Ratio[of+"/"+to] = a / b
				}
			}
		}
	}
}

// median of an even number is the mean of the middle two; of none it is 0.
func median(samples []float64) float64 {
	if len(samples) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(samples))
	n := len(s)
	return (s[(n-1)/2] + s[n/2]) / 2
}

// failed is an error when a load failed on a file system that must not fail.
func (r *report) failed() error {
	var err error
	for _, f := range r.Failures {
		if f.System != "gocryptfs" && f.System != "passthrough" {
			err = errors.Join(err, fmt.Errorf("%s failed on %s: %s", f.Load, f.System, f.Error))
		}
	}
	return err
}

func (r *report) write(path string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}

// table is Markdown: rates and latencies first, then memory.
func (r *report) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s. Rounds: %d; medians, in parentheses lowest to highest.%s %s\n\n", r.Machine, r.Rounds, r.Parameters.awake(), r.Started.Format("2006-01-02"))
	ratios := r.ratios()
	fmt.Fprintf(&b, "| load | unit | %s |\n", strings.Join(slices.Concat(r.headings(), ratios), " | "))
	fmt.Fprintf(&b, "|---|---|%s\n", strings.Repeat("--:|", len(r.Systems)+len(ratios)))
	for _, memory := range []bool{false, true} {
		for _, res := range r.Results {
			if (res.Metric == "memory") == memory {
				b.WriteString(r.row(res, ratios))
			}
		}
	}
	for _, f := range r.Failures {
		fmt.Fprintf(&b, "\n%s failed on %s: %s\n", f.Load, f.System, f.Error)
	}
	return b.String()
}

func (r *report) headings() (h []string) {
	for _, system := range r.Systems {
		h = append(h, r.heading(system))
	}
	return h
}

// heading names the bare file system by its type.
func (r *report) heading(system string) string {
	if system == "bare" && r.Machine.FileSystem != "" {
		return r.Machine.FileSystem
	}
	return system
}

// ratios lists those that any result has, in a fixed order.
func (r *report) ratios() (names []string) {
	for _, name := range []string{"akvfs/bare", "akvfs/gocryptfs", "passthrough/bare", "gocryptfs/bare"} {
		if slices.ContainsFunc(r.Results, func(res *result) bool { return res.Ratio[name] > 0 }) {
			names = append(names, name)
		}
	}
	return names
}

func (r *report) row(res *result, ratios []string) string {
	title := loadNamed(res.Load).title
	if res.Metric != "" {
		title += ": " + res.Metric
	}
	cells := []string{title, strings.TrimPrefix(res.Unit, "/")}
	if res.Unit == "/s" {
		cells[1] = "per s"
	}
	for _, system := range r.Systems {
		cells = append(cells, cell(res.Samples[system]))
	}
	for _, name := range ratios {
		if v := res.Ratio[name]; v > 0 && res.Metric != "memory" {
			cells = append(cells, fmt.Sprintf("%.2f", v))
		} else {
			cells = append(cells, "")
		}
	}
	return "| " + strings.Join(cells, " | ") + " |\n"
}

func cell(samples []float64) string {
	switch len(samples) {
	case 0:
		return "–"
	case 1:
		return number(samples[0])
	}
	return fmt.Sprintf("%s (%s–%s)", number(median(samples)), number(slices.Min(samples)), number(slices.Max(samples)))
}

// number has three digits, with commas between thousands.
func number(v float64) string {
	switch {
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	}
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
