package metrics

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"

	"github.com/akvfs/akvfs/fs/alert"
)

func contrib(name string) string { return filepath.Join("..", "..", "contrib", "prometheus", name) }

func readText(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestRules(t *testing.T) {
	promtool(t, "", "check", "rules", contrib("akvfs.rules.yml"))
	promtool(t, "", "test", "rules", contrib("akvfs.rules.test.yml"))
	rules := readText(t, contrib("akvfs.rules.yml"))
	checkUses(t, rules, exported(t))
	for _, k := range alert.Known() {
		want := `akvfs_alert_firing{alert="` + string(k.Name) + `"} == 1`
		_, rest, ok := strings.Cut(rules, want)
		severity, _, _ := strings.Cut(rest, "}")
		if !ok || !strings.HasSuffix(severity, "severity: "+string(k.Severity)) {
			t.Errorf("no rule of severity %s for %s", k.Severity, k.Name)
		}
	}
}

// use is a metric in an expression, with its matchers.
var use = regexp.MustCompile(`\b(akvfs_[a-z_]+)(?:\{([^}]*)\})?`)

// checkUses wants every metric of a text, and every label that it is selected
// by, to be exported.
func checkUses(t *testing.T, text string, families map[string]*dto.MetricFamily) {
	t.Helper()
	for _, m := range use.FindAllStringSubmatch(text, -1) {
		name := m[1]
		family := families[name]
		for _, suffix := range []string{"_bucket", "_count", "_sum"} {
			if f := families[strings.TrimSuffix(name, suffix)]; family == nil && f != nil && f.GetType() == dto.MetricType_HISTOGRAM {
				family = f
			}
		}
		if family == nil {
			t.Errorf("%s is not exported", name)
			continue
		}
		for matcher := range strings.SplitSeq(m[2], ",") {
			label, _, ok := strings.Cut(matcher, "=")
			label = strings.Trim(label, "! ")
			if ok && !slices.ContainsFunc(family.GetMetric()[0].GetLabel(), func(l *dto.LabelPair) bool { return l.GetName() == label }) {
				t.Errorf("%s has no label %q", name, label)
			}
		}
	}
}

// A dashboard that Grafana can load, with expressions that find something.
func TestDashboard(t *testing.T) {
	var dashboard struct {
		UID, Title    string
		SchemaVersion int
		Templating    struct {
			List []struct{ Name, Definition string }
		}
		Panels []struct {
			ID          int
			Type, Title string
			GridPos     struct{ X, Y, W, H int }
			Targets     []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(readText(t, contrib("akvfs.dashboard.json"))), &dashboard); err != nil {
		t.Fatal(err)
	}
	families := exported(t)
	if dashboard.UID == "" || dashboard.Title == "" || dashboard.SchemaVersion == 0 || len(dashboard.Panels) == 0 {
		t.Errorf("%+v", dashboard)
	}
	for _, v := range dashboard.Templating.List {
		checkUses(t, v.Definition, families)
	}
	ids := make(map[int]bool)
	var rules strings.Builder // promtool parses expressions in rules only
	rules.WriteString("groups:\n- name: panels\n  rules:\n")
	for _, p := range dashboard.Panels {
		if ids[p.ID] || p.Type == "" || p.Title == "" || p.GridPos.W*p.GridPos.H == 0 || p.GridPos.X+p.GridPos.W > 24 || len(p.Targets) == 0 {
			t.Errorf("panel %+v", p)
		}
		ids[p.ID] = true
		for _, target := range p.Targets {
			checkUses(t, target.Expr, families)
			expr, err := json.Marshal(strings.ReplaceAll(target.Expr, "$__rate_interval", "5m"))
			if err != nil {
				t.Fatal(err)
			}
			rules.WriteString("  - record: panel:expr\n    labels: {panel: " + string(expr) + "}\n    expr: " + string(expr) + "\n")
		}
	}
	file := filepath.Join(t.TempDir(), "panels.yml")
	if err := os.WriteFile(file, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "", "check", "rules", file)
}

// The tables of the manual name what there is, and nothing else.
func TestManual(t *testing.T) {
	manual := readText(t, filepath.Join("..", "..", "docs", "OPERATIONS.md"))
	families := exported(t)
	rows := regexp.MustCompile("(?m)^\\| `(akvfs_[a-z_]+)` \\| ([a-z]+) \\| ([^|]*) \\|").FindAllStringSubmatch(manual, -1)
	found := make(map[string]bool)
	for _, row := range rows {
		name, kind, labels := row[1], row[2], row[3]
		found[name] = true
		f := families[name]
		if f == nil {
			t.Errorf("the manual has %s, which is not exported", name)
			continue
		}
		var want []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			if l.GetName() != "volume" {
				want = append(want, l.GetName())
			}
		}
		if kind != strings.ToLower(f.GetType().String()) || strings.TrimSpace(labels) != strings.Join(want, ", ") {
			t.Errorf("the manual has %s as a %s with labels %q, and it is a %s with %q", name, kind, labels, f.GetType(), want)
		}
	}
	for name := range families {
		if strings.HasPrefix(name, "akvfs_") && !found[name] {
			t.Errorf("the manual lacks %s", name)
		}
	}
	for _, k := range alert.Known() {
		if !strings.Contains(manual, "\n| `"+string(k.Name)+"` | "+string(k.Severity)+" | ") {
			t.Errorf("the manual lacks the alert %s (%s)", k.Name, k.Severity)
		}
	}
}
