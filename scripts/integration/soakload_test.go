//go:build integration

package integration

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/akvfs/akvfs/scripts/rig"
)

// soakLoad runs, is ended by whatever happens, and can say of everything that
// it was told to be durable whether it is there.
type soakLoad interface {
	start(rng *rand.Rand) // no-op while it runs
	mustRun(t *testing.T) // fails the test if it ended, unless it is doomed
	doomed()              // from here on it may fail
	end()
	check()
	tell() string
}

func (e *endurance) addLoads() {
	e.t.Helper()
	w := newWiredTiger(e.volume, "wt", "--cache-mb", "16", "--checkpoint", "1")
	w.run("load", "--records", "20000")
	e.wt = &wiredTigerLoad{wiredTiger: w}
	e.still = newStillFiles(e.volume, e.rng)
	e.loads = []soakLoad{e.wt, newSQLiteLoad(e.volume, "wal"), newSQLiteLoad(e.volume, "truncate"), &fioLoad{v: e.volume}, e.still}
	for _, l := range e.loads { // so that there is a database to check
		l.start(e.rng)
	}
	e.pause()
	e.endLoads(func() {})
}

// procLoad is a load that is one process.
type procLoad struct {
	v     *volume
	proc  *rig.Proc
	dying bool
	runs  int
}

func (p *procLoad) launch(c rig.Command) {
	if p.proc == nil {
		p.proc, p.dying = p.v.start(c), false
		p.runs++
	}
}

func (p *procLoad) mustRun(t *testing.T) {
	t.Helper()
	if p.proc != nil && !p.dying && p.proc.Done() {
		t.Fatalf("a load ended by itself: %v", p.proc.Wait(t.Context()))
	}
}

func (p *procLoad) doomed() { p.dying = true }

func (p *procLoad) end() {
	if p.proc != nil {
		p.proc.Kill()
		p.proc = nil
	}
}

// wiredTigerLoad is a database of WiredTiger.
type wiredTigerLoad struct {
	*wiredTiger
	procLoad
	mode string
}

func (w *wiredTigerLoad) start(rng *rand.Rand) {
	if w.proc != nil {
		return
	}
	w.mode = []string{"commit", "mixed"}[rng.IntN(2)]
	w.procLoad.v = w.wiredTiger.v
	w.launch(w.command(w.mode, "--seconds", "36000", "--threads", "2"))
}

func (w *wiredTigerLoad) check()       { w.wiredTiger.check() }
func (w *wiredTigerLoad) tell() string { return fmt.Sprintf("WiredTiger ran %d times", w.runs) }

// sqliteLoad is a database of SQLite.
type sqliteLoad struct {
	*sqlite
	procLoad
}

func newSQLiteLoad(v *volume, journal string) *sqliteLoad {
	return &sqliteLoad{newSQLite(v, journal), procLoad{v: v}}
}

func (s *sqliteLoad) start(*rand.Rand) { s.launch(s.load("36000")) }
func (s *sqliteLoad) check()           { s.procLoad.v.run(s.command("verify")) }
func (s *sqliteLoad) tell() string     { return fmt.Sprintf("SQLite, %s, ran %d times", s.journal, s.runs) }

// fioFiles is how many files fio writes in turn. Each is written whole, again
// and again; a file is to be verified while the last run on it has ended well,
// with an fsync.
const fioFiles = 4

type fioLoad struct {
	v      *volume
	cancel context.CancelFunc // nil: it does not run
	done   sync.WaitGroup
	dying  bool

	mu    sync.Mutex      // guards the rest
	whole [fioFiles]int64 // the seed it was written with; 0: not to be verified
	err   error
	runs  int
}

func (f *fioLoad) command(file int, seed int64, extra ...string) rig.Command {
	kinds := [fioFiles][]string{
		{"--ioengine=psync", "--rw=randwrite", "--bsrange=512-16k", "--bs_unaligned=0"},
		{"--ioengine=libaio", "--iodepth=8", "--direct=1", "--rw=randwrite", "--bs=4k"},
		{"--ioengine=mmap", "--rw=randwrite", "--bs=4k"},
		{"--ioengine=psync", "--rw=write", "--bs=256k"},
	}
	args := append([]string{"--name=soak", "--filename=" + filepath.Join(f.v.Dir(), fmt.Sprint("fio", file)),
		"--size=8m", "--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0", "--randseed=" + strconv.FormatInt(seed, 10),
		"--thread", "--minimal"}, kinds[file]...)
	c := command("fio", append(args, extra...)...)
	c.Dir = f.v.scratch
	return c
}

func (f *fioLoad) start(rng *rand.Rand) {
	if f.cancel != nil {
		return
	}
	ctx, cancel := context.WithCancel(f.v.t.Context())
	f.cancel, f.dying = cancel, false
	seed := rng.Int64N(1 << 30)
	f.done.Go(func() {
		for i := int64(1); ctx.Err() == nil && f.write(ctx, int(i%fioFiles), seed+i); i++ {
		}
	})
}

// write writes a file once; false ends the load.
func (f *fioLoad) write(ctx context.Context, file int, seed int64) bool {
	f.note(file, 0, nil)
	_, err := f.command(file, seed, "--do_verify=0", "--end_fsync=1").Run(ctx)
	if err != nil {
		seed = 0
	}
	if ctx.Err() != nil {
		return false
	}
	f.note(file, seed, err)
	return err == nil
}

func (f *fioLoad) note(file int, seed int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.whole[file], f.err = seed, err
	if seed != 0 {
		f.runs++
	}
}

func (f *fioLoad) mustRun(t *testing.T) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil && !f.dying {
		t.Fatalf("fio: %v", f.err)
	}
}

func (f *fioLoad) doomed() { f.dying = true }

func (f *fioLoad) end() {
	if f.cancel != nil {
		f.cancel()
		f.done.Wait()
		f.cancel = nil
	}
}

func (f *fioLoad) check() {
	f.v.t.Helper()
	for file, seed := range f.whole {
		if seed != 0 {
			f.v.run(f.command(file, seed, "--verify_only"))
		}
	}
}

func (f *fioLoad) tell() string { return fmt.Sprintf("fio wrote %d files of 8 MiB", f.runs) }

// stillFiles are files that are written once and never touched again.
type stillFiles struct {
	v    *volume
	sums map[string][sha256.Size]byte
}

func newStillFiles(v *volume, rng *rand.Rand) *stillFiles {
	s := &stillFiles{v, map[string][sha256.Size]byte{}}
	v.must(os.Mkdir(filepath.Join(v.Dir(), "still"), 0o755))
	for i := range 200 {
		content := make([]byte, rng.IntN(1<<rng.IntN(22)+1))
		for j := range content {
			content[j] = byte(rng.Uint32())
		}
		name := filepath.Join("still", fmt.Sprint("file", i))
		v.must(os.WriteFile(filepath.Join(v.Dir(), name), content, 0o600))
		s.sums[name] = sha256.Sum256(content)
	}
	v.run(command("sync", "--file-system", filepath.Join(v.Dir(), "still")))
	for name := range s.sums { // sync does not reach the daemon: see docs/SECURITY.md
		v.run(command("sync", filepath.Join(v.Dir(), name)))
	}
	return s
}

func (s *stillFiles) start(*rand.Rand)   {}
func (s *stillFiles) mustRun(*testing.T) {}
func (s *stillFiles) doomed()            {}
func (s *stillFiles) end()               {}

func (s *stillFiles) check() {
	s.v.t.Helper()
	for name, want := range s.sums {
		got, err := os.ReadFile(filepath.Join(s.v.Dir(), name))
		if err != nil || sha256.Sum256(got) != want {
			s.v.t.Errorf("%s has changed (%v)", name, err)
		}
	}
}

// checkUnmounted reads them without the mount.
func (s *stillFiles) checkUnmounted(a *rig.Akvfs) {
	s.v.t.Helper()
	to := filepath.Join(s.v.scratch, "exported")
	s.v.run(a.Command("export", a.Backing(), "still", "--to", to))
	for name, want := range s.sums {
		got, err := os.ReadFile(filepath.Join(to, name))
		if err != nil || sha256.Sum256(got) != want {
			s.v.t.Errorf("%s, exported, has changed (%v)", name, err)
		}
	}
}

func (s *stillFiles) tell() string { return fmt.Sprintf("%d files that nobody touched", len(s.sums)) }
