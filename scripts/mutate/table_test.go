package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMutationsApply: each mutation still finds what it changes, exactly once.
// That the tests catch it is `make mutate`'s to prove, which takes long.
func TestMutationsApply(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range mutations {
		if seen[m.rule] {
			t.Errorf("%q is there twice", m.rule)
		}
		seen[m.rule] = true
		source, err := os.ReadFile(filepath.Join("../..", m.file))
		if err != nil {
			t.Errorf("%q: %v", m.rule, err)
			continue
		}
		if n := strings.Count(string(source), m.old); n != 1 {
			t.Errorf("%q: %s holds the text to change %d times", m.rule, m.file, n)
		}
		if m.old == m.new {
			t.Errorf("%q changes nothing", m.rule)
		}
	}
}
