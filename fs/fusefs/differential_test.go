package fusefs

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// The differential test is ext4 beside the mount: processes do the same random
// system calls on both, and every result and the trees that are left must be
// the same. What may differ is not among the calls, and is told, with why, in
// docs/POSIX.md.

var (
	differentialSeed  = flag.Uint64("differential.seed", 1, "first seed of TestDifferential")
	differentialSteps = flag.Int("differential.steps", 0, "system calls of TestDifferential, all processes together; 0: a small number")
)

// user is whom an actor runs as.
type user struct{ UID, GID uint32 }

// scene is a kind of history: who takes part in one directory. One actor runs
// through it at full speed; several take turns.
type scene struct {
	name  string
	users []user
}

var (
	alone  = []scene{{"root", []user{{}}}, {"user", []user{{someone, somegroup}}}}
	shared = scene{"together", []user{{}, {someone, somegroup}, {someone + 1, somegroup}, {}}}
)

// step is one call of one actor.
type step struct {
	Actor int
	Call  call
}

// history is what a seed makes of a scene; number tells those of one seed apart.
func history(s scene, seed, number uint64, n int) []step {
	r := rand.New(rand.NewPCG(seed, number))
	steps := make([]step, n)
	for i := range steps {
		steps[i] = step{r.IntN(len(s.users)), draw(r)}
	}
	return steps
}

// TestDifferential runs random histories on a mount of each engine and on the
// file system below it, four processes with a directory each at the same time,
// and then four that share one and take turns.
func TestDifferential(t *testing.T) {
	seed, steps := *differentialSeed, *differentialSteps
	if steps == 0 {
		steps = usualSteps
	}
	t.Logf("from -differential.seed=%d on, %d calls", seed, steps)
	eachEngine(t, func(t *testing.T, m *mounted) {
		d := &differential{t: t, m: m, below: oracle(t)}
		const piece = 1250
		for ; d.steps < steps/2; seed++ {
			d.beside(seed, piece)
			d.check(shared, seed, 4, 2*piece)
			if t.Failed() {
				t.FailNow()
			}
			m.remount()
			d.compareTrees()
		}
		t.Logf("%d calls compared, the next seed is %d", d.steps, seed)
	})
}

// oracle is a directory of the file system below, mounted as akvfs is: times
// of access stand still.
func oracle(t *testing.T) string {
	dir := t.TempDir()
	must(t, unix.Mount(dir, dir, "", unix.MS_BIND, ""))
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	must(t, unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_NOATIME|unix.MS_NOSUID|unix.MS_NODEV, ""))
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		must(t, os.Chmod(d, 0o755))
	}
	return dir
}

// differential is a run of histories on one mount.
type differential struct {
	t     *testing.T
	m     *mounted
	below string

	mu    sync.Mutex
	names []string // directories whose trees are to be compared
	steps int
	dirs  int
}

// beside runs histories of one actor each, all at the same time.
func (d *differential) beside(seed uint64, n int) {
	var all sync.WaitGroup
	for i := range uint64(4) {
		all.Go(func() { d.check(alone[i%2], seed, i, n) })
	}
	all.Wait()
}

// check runs a history on both sides. Of one that differs it looks for the
// shortest that does.
func (d *differential) check(s scene, seed, number uint64, n int) {
	steps := history(s, seed, number, n)
	at, want, got, err := d.run(s, steps)
	if err != nil {
		d.t.Error(err)
		return
	}
	d.mu.Lock()
	d.steps += n
	d.mu.Unlock()
	if at < 0 {
		return
	}
	d.t.Errorf("-differential.seed=%d: %s, step %d: %v\n below: %s\n mount: %s", seed, s.name, at, steps[at].Call, want, got)
	d.explain(s, steps[:at+1])
}

// explain prints the shortest history found that differs.
func (d *differential) explain(s scene, steps []step) {
	least := shrink(steps, func(part []step) bool {
		at, _, _, err := d.run(s, part)
		return err == nil && at >= 0
	})
	at, want, got, err := d.run(s, least)
	if err != nil || at < 0 {
		d.t.Logf("it does not happen every time: %v", err)
		return
	}
	var b strings.Builder
	for _, st := range least {
		fmt.Fprintf(&b, "  %d %v\n", st.Actor, st.Call)
	}
	d.t.Errorf("the shortest found:\n%s below: %s\n mount: %s", b.String(), want, got)
}

// shrink takes parts out of a history for as long as what is left still fails.
func shrink(steps []step, fails func([]step) bool) []step {
	const most = 150
	tries := 0
	for size := len(steps) / 2; size > 0; size /= 2 {
		for from := 0; from < len(steps) && tries < most; {
			part := slices.Concat(steps[:from], steps[min(from+size, len(steps)):])
			tries++
			if len(part) > 0 && fails(part) {
				steps = part
				continue
			}
			from += size
		}
	}
	return steps
}

// run plays a history in a new directory on both sides. at is the first step
// whose results differ, -1 if none does.
func (d *differential) run(s scene, steps []step) (at int, want, got string, err error) {
	d.mu.Lock()
	d.dirs++
	name := fmt.Sprintf("%s%d", s.name, d.dirs)
	d.mu.Unlock()
	var sides [2][]string
	var errs [2]error
	var both sync.WaitGroup
	for i, root := range []string{d.below, d.m.dir} {
		both.Go(func() { sides[i], errs[i] = play(d.t, s, filepath.Join(root, name), steps) })
	}
	both.Wait()
	for _, err := range errs {
		if err != nil {
			return -1, "", "", err
		}
	}
	for i := range steps {
		if sides[0][i] != sides[1][i] {
			return i, sides[0][i], sides[1][i], nil
		}
	}
	d.mu.Lock()
	d.names = append(d.names, name)
	d.mu.Unlock()
	return -1, "", "", nil
}

// play runs a history in one directory, which it makes.
func play(t *testing.T, s scene, dir string, steps []step) ([]string, error) {
	if err := os.Mkdir(dir, 0o777); err != nil {
		return nil, err
	}
	mode := uint32(0o755)
	if len(s.users) > 1 {
		mode = 0o777
	} else if err := os.Chown(dir, int(s.users[0].UID), int(s.users[0].GID)); err != nil {
		return nil, err
	}
	if err := unix.Chmod(dir, mode); err != nil {
		return nil, err
	}
	return perform(t, s, dir, steps)
}

// compareTrees compares what the histories have left.
func (d *differential) compareTrees() {
	d.t.Helper()
	for _, name := range d.names {
		want, err := treeOf(filepath.Join(d.below, name))
		must(d.t, err)
		got, err := treeOf(filepath.Join(d.m.dir, name))
		must(d.t, err)
		for i := range max(len(want), len(got)) {
			if w, g := lineAt(want, i), lineAt(got, i); w != g {
				d.t.Fatalf("%s after a remount\n below: %s\n mount: %s", name, w, g)
			}
		}
		must(d.t, os.RemoveAll(filepath.Join(d.below, name)))
		must(d.t, os.RemoveAll(filepath.Join(d.m.dir, name)))
	}
	d.names = nil
}
