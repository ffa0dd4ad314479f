package daemon

import "testing"

func TestUncached(t *testing.T) {
	match := uncached([]string{"WiredTigerLog.*", "pg_wal/*", "a/b/c"})
	for name, want := range map[string]bool{
		"WiredTigerLog.0000000001":         true,
		"journal/WiredTigerLog.0000000001": true,
		"WiredTigerLog":                    false,
		"WiredTigerLog.1/x":                false,
		"pg_wal/000000010000000000000001":  true,
		"data/pg_wal/00000001":             true,
		"data/pg_wal/archive_status/00001": false,
		"data/my_pg_wal/00000001":          false,
		"pg_wal":                           false,
		"a/b/c":                            true,
		"x/a/b/c":                          true,
		"b/c":                              false,
		"":                                 false,
		"collection-0-123.wt":              false,
	} {
		if got := match(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
	if uncached(nil) != nil {
		t.Error("without patterns there is nothing to ask")
	}
	for _, p := range []string{"", "[", `a\`} {
		if CheckUncached(p) == nil {
			t.Errorf("%q passes for a pattern", p)
		}
	}
}
