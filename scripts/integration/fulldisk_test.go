//go:build integration

package integration

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/scripts/rig"
)

// leave takes the disk's room but for so many bytes, until the balloon it
// returns is removed.
func (v *volume) leave(bytes int64) (balloon string) {
	v.t.Helper()
	balloon = filepath.Join(v.disk.Dir, "balloon")
	f, err := os.Create(balloon)
	v.must(err)
	defer f.Close()
	size := int64(0)
	for chunk := int64(1 << 30); chunk >= 64<<10; { // what is free counts what cannot be had
		err := unix.Fallocate(int(f.Fd()), 0, size, chunk)
		switch {
		case err == nil:
			size += chunk
		case errors.Is(err, unix.ENOSPC):
			chunk /= 2
		default:
			v.t.Fatal(err)
		}
	}
	v.must(f.Truncate(size - bytes))
	return balloon
}

// seen syncs all files of a directory: what the kernel could not write back for
// lack of room it tells the next who syncs, once, and that was no part of the
// load that ended.
func (v *volume) seen(dir string) {
	v.t.Helper()
	v.must(filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		if err := f.Sync(); err != nil && !errors.Is(err, unix.ENOSPC) {
			return err
		}
		return f.Close()
	}))
}

// fails waits for a load that must end by itself, and says why in these words.
func (v *volume) fails(p *rig.Proc, why string) {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(v.t.Context(), patience)
	defer cancel()
	err := p.Wait(ctx)
	if !p.Done() {
		v.t.Fatalf("the load goes on without room")
	}
	if err == nil || !strings.Contains(p.Output(), why) {
		v.t.Fatalf("the load ended with %v: %s", err, p.Output())
	}
}

// TestFullDiskUnderLoad fills the disk to the last block under each load. The
// load learns of it; nothing that it was told is lost; and once there is room,
// everything goes on on the same mount.
func TestFullDiskUnderLoad(t *testing.T) {
	const room = 24 << 20
	onDisks(t, func(t *testing.T, v *volume) {
		w := newWiredTiger(v, "db", "--cache-mb", "16", "--checkpoint", "1")
		w.run("load", "--records", "5000")
		balloon := v.leave(room)
		grown := newWiredTiger(v, "grown", "--cache-mb", "16", "--checkpoint", "1")
		v.fails(v.start(grown.command("load", "--records", "1000000")), "No space left")
		v.must(os.Remove(balloon))
		v.seen(v.Dir())
		grown.check()
		w.check()
		w.run("commit", "--seconds", seconds(1))

		s := newSQLite(v, "wal")
		balloon = v.leave(1 << 20)                        // the write-ahead log alone becomes larger
		v.fails(v.start(s.load("600")), "disk I/O error") // what SQLite says of a sync that fails, too
		v.must(os.Remove(balloon))
		v.seen(v.Dir())
		s.check()
		v.run(s.load(seconds(1)))
		s.check()

		fio := func(extra ...string) rig.Command {
			c := command("fio", append([]string{"--name=full", "--filename=" + filepath.Join(v.Dir(), "fio"), "--ioengine=psync",
				"--rw=write", "--bs=64k", "--size=64m", "--fallocate=none", "--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0"}, extra...)...)
			c.Dir = v.scratch
			return c
		}
		balloon = v.leave(room)
		v.fails(v.start(fio("--do_verify=0", "--end_fsync=1")), "No space left")
		v.must(os.Remove(balloon))
		v.seen(v.Dir())
		v.run(fio("--do_verify=1"))
		v.remount()
		w.check()
		v.run(fio("--verify_only"))
	})
}
