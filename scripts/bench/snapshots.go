package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/scripts/rig"
)

const (
	// snapshotTimes is how often each figure about snapshots is taken.
	snapshotTimes = 3
	// snapshotPatience is for a MiB of the volume, which is read some 20 times.
	snapshotPatience = 150 * time.Millisecond
	// listPatience is for a file that is made, listed and removed.
	listPatience = 10 * time.Millisecond
	// changedBlocks is one in how many blocks changes before an increment.
	changedBlocks = 100
	pageBytes     = 4096
)

// snapshots takes, proves and exports snapshots of a volume on an XFS of its
// own, and compares with cat and rsync of the encrypted files. Other file
// systems have nothing to show here.
func snapshots(ctx context.Context, b *bench, _ string) (_ []sample, err error) {
	if b.Kind() != "akvfs" {
		return nil, nil
	}
	disk, err := rig.NewDisk(ctx, b.scratch, "xfs", int64(b.SnapshotMiB)*4<<20+4<<30)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	s, err := rig.New("akvfs", disk.Dir, rig.Options{Akvfs: b.akvfs})
	if err != nil {
		return nil, err
	}
	v := &snapshotBench{ctx: ctx, b: b, a: s.(*rig.Akvfs), dir: filepath.Join(disk.Dir, "snaps"), seen: map[string][]float64{}}
	if err := errors.Join(v.a.Init(ctx), v.a.Mount(ctx)); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, v.a.Close()) }()
	if err := v.run(); err != nil {
		return nil, err
	}
	return v.samples(), nil
}

// snapshotBench measures on one volume.
type snapshotBench struct {
	ctx  context.Context
	b    *bench
	a    *rig.Akvfs
	dir  string // of the snapshots
	seen map[string][]float64
}

// snapshotMetrics are what it measures, in the order of the table.
var snapshotMetrics = []sample{
	{Metric: "create, writers held", Unit: "ms"}, {Metric: "create", Unit: "s"},
	{Metric: "cat of its files, cold", Unit: "MiB/s"}, {Metric: "verify, cold", Unit: "MiB/s"}, {Metric: "export, cold", Unit: "MiB/s"},
	{Metric: "verify / cat", Unit: ""}, {Metric: "export / cat", Unit: ""},
	{Metric: "export, all", Unit: "s"}, {Metric: "export since, after 1 %", Unit: "s"}, {Metric: "rsync after 1 %", Unit: "s"},
	{Metric: "export, all: size", Unit: "MiB"}, {Metric: "export since: size", Unit: "MiB"}, {Metric: "rsync: sent", Unit: "MiB"},
}

// note keeps a figure, and prints it: of a large volume the last comes late.
func (v *snapshotBench) note(metric string, value float64) {
	fmt.Fprintf(os.Stderr, "  %s: %s\n", metric, number(value))
	v.seen[metric] = append(v.seen[metric], value)
}

func (v *snapshotBench) samples() (all []sample) {
	for _, s := range snapshotMetrics {
		s.Value = median(v.seen[s.Metric])
		all = append(all, s)
	}
	return all
}

func (v *snapshotBench) run() error {
	if err := v.fill(); err != nil {
		return err
	}
	for i := range snapshotTimes {
		if err := v.create(fmt.Sprint("s", i)); err != nil {
			return err
		}
	}
	for range snapshotTimes {
		if err := v.rates("s0"); err != nil {
			return err
		}
	}
	if err := errors.Join(v.change(), v.create("changed")); err != nil {
		return err
	}
	return v.increments("s0", "changed")
}

func (v *snapshotBench) file(i int) string { return filepath.Join(v.a.Dir(), fmt.Sprint("f", i)) }

// fill writes files of random bytes.
func (v *snapshotBench) fill() error {
	buf := make([]byte, v.b.SnapshotMiB<<20/v.b.SnapshotFiles)
	r := rand.NewChaCha8([32]byte{1})
	for i := range v.b.SnapshotFiles {
		_, _ = r.Read(buf) // never fails
		if err := os.WriteFile(v.file(i), buf, 0o600); err != nil {
			return err
		}
		if err := v.ctx.Err(); err != nil {
			return err
		}
	}
	unix.Sync()
	return nil
}

// create takes a snapshot.
func (v *snapshotBench) create(name string) error {
	begin := time.Now()
	out, err := v.a.Run(v.ctx, "snapshot", "create", "--json", v.a.Dir(), name, "--to", v.dir)
	took := time.Since(begin)
	if err != nil {
		return err
	}
	var made struct {
		Held float64 `json:"held_us"`
	}
	if err := json.Unmarshal([]byte(out), &made); err != nil {
		return err
	}
	v.note("create, writers held", made.Held/1000)
	v.note("create", took.Seconds())
	return nil
}

// cold times a command that finds nothing in the page cache.
func (v *snapshotBench) cold(c rig.Command) (seconds float64, err error) {
	unix.Sync()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
		return 0, err
	}
	begin := time.Now()
	_, err = c.Run(v.ctx)
	return time.Since(begin).Seconds(), err
}

func shell(script string, args ...string) rig.Command {
	return rig.Command{Path: "/bin/sh", Args: append([]string{"-c", script, "sh"}, args...)}
}

// export writes a snapshot where nothing has to be waited for.
func (v *snapshotBench) export(args string, name ...string) rig.Command {
	c := v.a.Command()
	script := shell(`bin=$1 dir=$2 name=$3; shift 3; exec "$bin" snapshot export "$dir" "$name" `+args+` > /dev/null`,
		append([]string{c.Path, v.dir}, name...)...)
	script.Env = c.Env
	return script
}

// rates reads a snapshot in three ways.
func (v *snapshotBench) rates(name string) error {
	mib := float64(v.b.SnapshotMiB)
	plain, err := v.cold(shell(`find "$1" -type f -print0 | xargs -0 cat > /dev/null`, filepath.Join(v.dir, name)))
	if err != nil {
		return err
	}
	verify, err := v.cold(v.a.Command("snapshot", "verify", v.dir, name))
	if err != nil {
		return err
	}
	export, err := v.cold(v.export("", name))
	if err != nil {
		return err
	}
	v.note("cat of its files, cold", mib/plain)
	v.note("verify, cold", mib/verify)
	v.note("export, cold", mib/export)
	v.note("verify / cat", plain/verify)
	v.note("export / cat", plain/export)
	return nil
}

// change overwrites some blocks, all over the files.
func (v *snapshotBench) change() error {
	size := v.b.SnapshotMiB << 20 / v.b.SnapshotFiles
	blocks := v.b.SnapshotMiB << 20 / pageBytes / changedBlocks
	r := rand.New(rand.NewPCG(1, 2))
	for range blocks {
		f, err := os.OpenFile(v.file(r.IntN(v.b.SnapshotFiles)), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteAt(make([]byte, pageBytes), int64(r.IntN(max(1, size/pageBytes)))*pageBytes)
		if err = errors.Join(err, f.Close(), v.ctx.Err()); err != nil {
			return err
		}
	}
	unix.Sync()
	return nil
}

// increments compares the difference of two snapshots with all of the newer,
// and with what rsync makes of the encrypted files.
func (v *snapshotBench) increments(old, now string) error {
	whole, since := filepath.Join(v.dir, "..", "whole"), filepath.Join(v.dir, "..", "since")
	for metric, c := range map[string]struct {
		file string
		args []string
	}{"export, all": {whole, nil}, "export since, after 1 %": {since, []string{"--base", old}}} {
		took, err := v.cold(v.a.Command(append([]string{"snapshot", "export", v.dir, now, "--output", c.file}, c.args...)...))
		if err != nil {
			return err
		}
		v.note(metric, took)
	}
	for metric, file := range map[string]string{"export, all: size": whole, "export since: size": since} {
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		v.note(metric, float64(info.Size())/(1<<20))
		if err := os.Remove(file); err != nil {
			return err
		}
	}
	return v.rsync(old, now)
}

// rsync brings a copy of one snapshot to the state of another.
func (v *snapshotBench) rsync(old, now string) error {
	to := filepath.Join(v.dir, "..", "mirror")
	sync := func(name string) rig.Command {
		return shell(`rsync -aHSX --no-whole-file --delete --stats "$1/" "$2/" | sed -n 's/^Total bytes sent: //p' | tr -d ',' > "$2.sent"`,
			filepath.Join(v.dir, name), to)
	}
	if _, err := sync(old).Run(v.ctx); err != nil {
		return err
	}
	took, err := v.cold(sync(now))
	if err != nil {
		return err
	}
	out, err := os.ReadFile(to + ".sent")
	if err != nil {
		return err
	}
	sent, err := strconv.ParseFloat(string(out[:max(0, len(out)-1)]), 64)
	if err != nil {
		return fmt.Errorf("rsync says %q: %w", out, err)
	}
	v.note("rsync after 1 %", took)
	v.note("rsync: sent", sent/(1<<20))
	return os.RemoveAll(to)
}

// listing lists many files: with find, and those of akvfs, on a volume of their
// own, without a mount. Others have nothing to show here.
func listing(ctx context.Context, b *bench, dir string) (_ []sample, err error) {
	switch a := b.System.(type) {
	case *rig.Bare:
		if err := manyFiles(ctx, dir, b.ListFiles); err != nil {
			return nil, err
		}
		return timeListing(ctx, rig.Command{Path: "find", Args: []string{dir}})
	case *rig.Akvfs:
		base := filepath.Join(filepath.Dir(a.Backing()), "listing")
		if err := os.Mkdir(base, 0o755); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(base)) }()
		s, err := rig.New("akvfs", base, rig.Options{Akvfs: b.akvfs})
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, s.Close()) }()
		if err := errors.Join(s.Init(ctx), s.Mount(ctx)); err != nil {
			return nil, err
		}
		if err := errors.Join(manyFiles(ctx, s.Dir(), b.ListFiles), s.Unmount(ctx)); err != nil {
			return nil, err
		}
		return timeListing(ctx, s.(*rig.Akvfs).Command("ls", "-R", s.Backing()))
	}
	return nil, nil
}

// timeListing times a command twice: from the disk, and from the page cache.
func timeListing(ctx context.Context, list rig.Command) ([]sample, error) {
	script := shell(`exec "$@" > /dev/null`, append([]string{list.Path}, list.Args...)...)
	script.Env = list.Env
	first, err := (&snapshotBench{ctx: ctx}).cold(script)
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	_, err = script.Run(ctx)
	return []sample{{"cold", "s", first}, {"again", "s", time.Since(begin).Seconds()}}, err
}

// manyFiles makes small files, a thousand in a directory.
func manyFiles(ctx context.Context, dir string, n int) error {
	for i := range n {
		in := filepath.Join(dir, fmt.Sprint("d", i/1000))
		if i%1000 == 0 {
			if err := errors.Join(ctx.Err(), os.Mkdir(in, 0o755)); err != nil {
				return err
			}
		}
		if err := os.WriteFile(filepath.Join(in, fmt.Sprintf("collection-%d.wt", i)), []byte("small"), 0o600); err != nil {
			return err
		}
	}
	return nil
}
