//go:build integration

package integration

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/akvfs/akvfs/fs/daemon"
	"github.com/akvfs/akvfs/scripts/rig"
)

// soakTime is AKVFS_SOAK_MINUTES, or what make integration has time for.
var soakTime = 10 * time.Second

// endurance is one volume for as long as the test lasts, and what happens to it.
type endurance struct {
	*volume
	a      *rig.Akvfs
	rng    *rand.Rand
	loads  []soakLoad
	wt     *wiredTigerLoad
	still  *stillFiles
	begun  time.Time
	counts map[string]int
	lives  []life
}

// TestSoak: databases and fio on one volume while everything happens to it
// that may, at random: snapshots, new versions of the key, new master keys,
// revocations, locks, and the death of loads and daemon. All that was
// acknowledged is there each time. In the last third the daemon lives on, and
// in the end it holds no more memory, files and goroutines than it began with.
func TestSoak(t *testing.T) {
	seed := soakSeed(t)
	races := filepath.Join(newScratch(t), "race")
	v, a := akvfsVolume(t, "ext4", rig.Options{
		MountOptions: []string{"check-interval=1s", "rewrap-rate=0"}, Env: []string{"GORACE=log_path=" + races},
	})
	e := &endurance{volume: v, a: a, rng: rand.New(rand.NewPCG(seed, 0)), begun: time.Now(), counts: map[string]int{}}
	t.Cleanup(func() { e.tell(seed) })
	t.Cleanup(func() { wantNoRaces(t, races) })
	e.addLoads()
	for time.Since(e.begun) < soakTime*2/3 {
		e.life(1+e.rng.IntN(6), true)
	}
	e.life(0, false)
	e.everyByte()
}

// wantNoRaces looks at what the race detector wrote, if it is in the daemon.
func wantNoRaces(t *testing.T, path string) {
	found, err := filepath.Glob(path + ".*")
	if err != nil {
		t.Error(err)
	}
	for _, name := range found {
		data, err := os.ReadFile(name)
		t.Errorf("a data race (%v):\n%s", err, data[:min(len(data), 8000)])
	}
}

func soakSeed(t *testing.T) uint64 {
	t.Helper()
	text := cmp.Or(os.Getenv("AKVFS_SOAK_SEED"), strconv.FormatInt(time.Now().Unix(), 10))
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("AKVFS_SOAK_SEED: %v", err)
	}
	fmt.Fprintf(os.Stderr, "soak: %v, AKVFS_SOAK_SEED=%d\n", soakTime, seed)
	return seed
}

// event is something that happens to a volume in use. One that ends the loads,
// or stops them from getting on, says so.
type event struct {
	name string
	ends bool
	do   func()
}

func (e *endurance) events() []event {
	return []event{
		{"snapshots", false, e.snapshot},
		{"snapshots restored", true, e.restored},
		{"new versions of the key", false, e.rotateKey},
		{"new master keys", false, func() { e.run(e.a.Command("master-key", "rotate", e.a.Dir(), "--wait")) }},
		{"new master keys, half-way", false, func() { e.run(e.a.Command("master-key", "rotate", e.a.Dir())) }},
		{"revocations", true, e.revoke},
		{"locks by hand", true, func() { e.run(e.a.Command("lock", e.a.Dir())); e.run(e.a.Command("unlock", e.a.Dir())) }},
		{"loads killed", true, func() {}},
	}
}

// life is that of one daemon: so many events, or as many as there is time for,
// and an end.
func (e *endurance) life(events int, mortal bool) {
	e.t.Helper()
	e.startLoads() // so that what a daemon keeps for the next time is there from the beginning
	e.pause()
	e.endLoads(func() {})
	e.check()
	began := e.footprint()
	l := life{began: began}
	for i := 0; i < events || events == 0 && time.Since(e.begun) < soakTime; i++ {
		e.startLoads()
		e.pause()
		all := e.events()
		ev := all[e.rng.IntN(len(all))]
		e.progress(ev.name)
		if ev.ends {
			e.endLoads(ev.do)
			e.check()
		} else {
			ev.do()
			e.pause()
		}
		e.counts[ev.name]++
	}
	if mortal && e.rng.IntN(3) > 0 {
		e.startLoads()
		e.pause()
		e.progress("daemons killed")
		e.endLoads(e.mustKill)
		e.mustMount()
		e.counts["daemons killed"]++
		return
	}
	e.endLoads(func() {})
	e.check()
	l.ended, l.lasted = e.footprint(), time.Since(began.at)
	e.lives = append(e.lives, l)
	e.comparable(l)
	e.unmount()
	e.mustMount()
	e.counts["remounts"]++
}

// pause lets the loads run for a while.
func (e *endurance) pause() {
	time.Sleep(500*time.Millisecond + time.Duration(e.rng.Int64N(int64(4*time.Second))))
	for _, l := range e.loads {
		l.mustRun(e.t)
	}
}

func (e *endurance) startLoads() {
	for _, l := range e.loads {
		l.start(e.rng)
	}
}

// endLoads does what may end the loads, and ends them.
func (e *endurance) endLoads(what func()) {
	e.t.Helper()
	for _, l := range e.loads {
		l.doomed()
	}
	what()
	for _, l := range e.loads {
		l.end()
	}
}

// check compares all that there is with what was acknowledged.
func (e *endurance) check() {
	e.t.Helper()
	for _, l := range e.loads {
		l.check()
	}
	if e.t.Failed() {
		e.t.FailNow()
	}
	e.counts["checks of everything"]++
}

func (e *endurance) snapshot() {
	e.run(e.a.Command("snapshot", "create", e.a.Dir(), "soak"))
	e.run(e.a.Command("snapshot", "verify", e.a.Dir(), "soak"))
	e.run(e.a.Command("snapshot", "delete", e.a.Dir(), "soak"))
}

// restored takes a snapshot under the load, and mounts what was restored of
// it beside the original: what was acknowledged before is there, and what was
// begun after is not.
func (e *endurance) restored() {
	before := e.copyOf(e.wt.ledger, filepath.Join(e.scratch, "before"))
	e.run(e.a.Command("snapshot", "create", e.a.Dir(), "soak"))
	ledger := e.bounds(before, e.copyOf(e.wt.ledger, filepath.Join(e.scratch, "after")))
	dir, at := filepath.Join(e.disk.Dir, "restored"), filepath.Join(e.disk.Dir, "restored-mount")
	e.must(os.MkdirAll(at, 0o755))
	e.run(e.a.Command("snapshot", "restore", e.a.Backing(), "soak", dir))
	e.run(e.a.Command("mount", dir, at))
	copied := &wiredTiger{v: e.volume, home: filepath.Join(at, "wt"), ledger: ledger, flags: e.wt.flags}
	if e.wt.mode == "commit" {
		copied.check()
	}
	e.run(e.a.Command("unmount", at))
	e.must(os.RemoveAll(dir))
	e.run(e.a.Command("snapshot", "delete", e.a.Dir(), "soak"))
}

// rotateKey makes a version of the key, which the daemon may take by itself
// before it is told to.
func (e *endurance) rotateKey() {
	e.run(e.a.Command("dev-key", "rotate", e.a.KeyFile()))
	e.run(e.a.Command("key", "rotate", e.a.Dir()))
}

func (e *endurance) revoke() {
	e.run(e.a.Command("dev-key", "disable", e.a.KeyFile()))
	e.eventually("locked", func() bool { return e.status().State == daemon.StateLocked })
	e.run(e.a.Command("dev-key", "enable", e.a.KeyFile()))
	e.eventually("unlocked", func() bool { return e.status().State == daemon.StateMounted })
}

func (e *endurance) status() (s daemon.Status) {
	e.t.Helper()
	e.must(json.Unmarshal([]byte(e.run(e.a.Command("status", e.a.Dir(), "--json"))), &s))
	return s
}

// everyByte has each block of the volume read and authenticated, beside the
// comparisons of check.
func (e *endurance) everyByte() {
	e.check()
	e.snapshot()
	if n := e.status().Stats.IntegrityErrors; n != 0 {
		e.t.Errorf("%d integrity errors", n)
	}
	e.unmount()
	e.still.checkUnmounted(e.a)
	e.mustMount()
	e.check()
}

// unmount is patient with what else goes on on the host: a namespace that was
// made at the same time may hold the mount for a moment.
func (e *endurance) unmount() {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), patience)
	defer cancel()
	pid := e.a.PID()
	err := e.a.Unmount(ctx)
	if rig.ExitCode(err) != 15 || !strings.Contains(err.Error(), "mount namespace") {
		e.must(err)
		return
	}
	e.eventually("the daemon ends", func() bool {
		state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || strings.Contains(string(state), ") Z ")
	})
}

// progress is for who waits for hours.
func (e *endurance) progress(what string) {
	if soakTime > time.Minute {
		fmt.Fprintf(os.Stderr, "soak: %v: %s\n", time.Since(e.begun).Round(time.Second), what)
	}
}

// tell says what has happened.
func (e *endurance) tell(seed uint64) {
	e.t.Logf("seed %d, %v", seed, time.Since(e.begun).Round(time.Second))
	for _, name := range slices.Sorted(maps.Keys(e.counts)) {
		e.t.Logf("%-26s %d", name, e.counts[name])
	}
	for _, l := range e.loads {
		e.t.Log(l.tell())
	}
	for _, l := range e.lives {
		e.t.Logf("a daemon's life of %v: %v, in the end %v", l.lasted.Round(time.Second), l.began, l.ended)
	}
}
