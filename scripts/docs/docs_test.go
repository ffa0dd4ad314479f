package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

var testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)

// tests are the names of all tests and fuzz targets, by package, and in "" of
// all packages.
func tests(t *testing.T) map[string]map[string]bool {
	t.Helper()
	all := map[string]map[string]bool{"": {}}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		pkg, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		if all[pkg] == nil {
			all[pkg] = map[string]bool{}
		}
		for _, m := range testFunc.FindAllStringSubmatch(read(t, filepath.Join(pkg, d.Name())), -1) {
			all[pkg][m[1]], all[""][m[1]] = true, true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// threats are the rows of the threat model.
func threats(t *testing.T) (rows []string) {
	t.Helper()
	_, table, ok := strings.Cut(read(t, "docs/SECURITY.md"), "| attacker | can | cannot | shown by |\n|---|---|---|---|\n")
	if !ok {
		t.Fatal("docs/SECURITY.md has no threat model")
	}
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, "|") {
			break
		}
		rows = append(rows, line)
	}
	return rows
}

var (
	namedIn = regexp.MustCompile("`([a-z/]+)`((?:,? ?(?:Test|Fuzz)[A-Z]\\w*)+)")
	named   = regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w*`)
)

// TestNamedTests: each row of the threat model names tests, and they are where
// it says.
func TestNamedTests(t *testing.T) {
	all := tests(t)
	rows := threats(t)
	if len(rows) < 8 {
		t.Fatalf("%d attackers", len(rows))
	}
	for _, row := range rows {
		cells := strings.Split(row, "|")
		shown := cells[len(cells)-2]
		names := named.FindAllString(shown, -1)
		if len(names) == 0 {
			t.Errorf("nothing shows it: %s", cells[1])
		}
		for _, name := range names {
			if !all[""][name] {
				t.Errorf("%s: there is no %s", cells[1], name)
			}
		}
		for _, m := range namedIn.FindAllStringSubmatch(shown, -1) {
			for _, name := range named.FindAllString(m[2], -1) {
				if !all[m[1]][name] {
					t.Errorf("%s: there is no %s in %s", cells[1], name, m[1])
				}
			}
		}
	}
}

// TestCrashTests is the same for the tests of crashes, some of which stand for
// several by the beginning of their names.
func TestCrashTests(t *testing.T) {
	all := tests(t)[""]
	for _, name := range named.FindAllString(read(t, "docs/CRASHES.md"), -1) {
		found := all[name]
		for have := range all {
			found = found || strings.HasPrefix(have, name)
		}
		if !found {
			t.Errorf("there is no %s", name)
		}
	}
}

var (
	direct = regexp.MustCompile(`(?m)^\t(\S+) v\S+$`)
	tool   = regexp.MustCompile(`(?m)^tool (\S+?)/cmd/`)
)

// TestDependencies: each module that go.mod requires for its own sake, with its
// version, stands with its reason in docs/ARCHITECTURE.md.
func TestDependencies(t *testing.T) {
	_, table, ok := strings.Cut(read(t, "docs/ARCHITECTURE.md"), "## Dependencies\n")
	if !ok {
		t.Fatal("docs/ARCHITECTURE.md has no dependencies")
	}
	mod := read(t, "go.mod")
	modules := append(direct.FindAllStringSubmatch(mod, -1), tool.FindAllStringSubmatch(mod, -1)...)
	if len(modules) < 10 {
		t.Fatalf("%d dependencies", len(modules))
	}
	for _, m := range modules {
		if !strings.Contains(table, "`"+m[1]+"`") {
			t.Errorf("%s is not there with its reason", m[1])
		}
	}
	if strings.Contains(mod, "\nreplace ") {
		t.Error("go.mod replaces a module: nobody who imports ours would get that")
	}
}
