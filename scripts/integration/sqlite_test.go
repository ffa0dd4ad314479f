//go:build integration

package integration

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/akvfs/akvfs/scripts/rig"
)

type sqlite struct {
	v                   *volume
	db, ledger, journal string
}

func newSQLite(v *volume, journal string) *sqlite {
	return &sqlite{v: v, db: filepath.Join(v.Dir(), journal+".db"), ledger: filepath.Join(v.scratch, journal+".ledger"), journal: journal}
}

func (s *sqlite) command(mode string, args ...string) rig.Command {
	args = append([]string{filepath.Join(repo, "scripts/loads/sqlite.py"), mode, "--db", s.db, "--ledger", s.ledger}, args...)
	return command(python, args...)
}

func (s *sqlite) load(seconds string) rig.Command {
	return s.command("run", "--journal", s.journal, "--seconds", seconds)
}

// check is PRAGMA integrity_check and a comparison with the ledger.
func (s *sqlite) check() {
	s.v.t.Helper()
	s.v.t.Log(s.v.run(s.command("verify")))
}

// TestSQLite runs the write-ahead mode, whose index is shared memory on the
// volume, and the rollback modes: a journal deleted, truncated or overwritten.
func TestSQLite(t *testing.T) {
	onDisks(t, func(t *testing.T, v *volume) {
		for _, journal := range []string{"wal", "delete", "truncate", "persist"} {
			s := newSQLite(v, journal)
			t.Log(journal, v.run(s.load(seconds(2))))
			s.check()
			v.remount()
			s.check()
		}
	})
}

func TestSQLiteDaemonKilled(t *testing.T) {
	onDisks(t, func(t *testing.T, v *volume) {
		for _, journal := range []string{"wal", "delete"} {
			s := newSQLite(v, journal)
			for range 2 * soak {
				load := v.start(s.load("600"))
				v.let(load, 1500*time.Millisecond)
				v.mustKill()
				load.Kill()
				v.mustMount()
				s.check()
			}
		}
	})
}
