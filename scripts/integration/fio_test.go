//go:build integration

package integration

import (
	"testing"

	"github.com/akvfs/akvfs/scripts/rig"
)

// TestFio writes with checksums in every block, by different ways into the
// kernel, and reads them back: at once, after a remount, and by another way
// than it was written.
func TestFio(t *testing.T) {
	jobs := []struct {
		name  string
		flags []string
	}{
		{"random 512 to 16k", []string{"--ioengine=psync", "--rw=randwrite", "--bsrange=512-16k", "--bs_unaligned=0"}},
		{"sequential 1m", []string{"--ioengine=psync", "--rw=write", "--bs=1m"}},
		{"direct 4k, queue of 16", []string{"--ioengine=libaio", "--iodepth=16", "--direct=1", "--rw=randwrite", "--bs=4k"}},
		{"direct 64k", []string{"--ioengine=psync", "--direct=1", "--rw=randwrite", "--bs=64k"}},
		{"mmap 4k", []string{"--ioengine=mmap", "--rw=randwrite", "--bs=4k"}},
		{"random 4k, fdatasync", []string{"--ioengine=psync", "--rw=randwrite", "--bs=4k", "--fdatasync=64"}},
		{"fallocated, 8k", []string{"--ioengine=psync", "--rw=randwrite", "--bs=8k", "--fallocate=native"}},
	}
	onDisks(t, func(t *testing.T, v *volume) {
		fio := func(i int, extra ...string) rig.Command {
			c := command("fio", append([]string{"--name=verify", "--filename=" + v.Dir() + "/file" + string(rune('a'+i)),
				"--size=24m", "--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0", "--randseed=42", "--thread",
				"--minimal"}, extra...)...)
			c.Dir = v.scratch
			return c
		}
		for i, job := range jobs {
			if _, err := v.try(fio(i, append(job.flags, "--do_verify=1")...)); err != nil {
				t.Fatalf("%s: %v", job.name, err)
			}
		}
		v.remount()
		for i, job := range jobs {
			if _, err := v.try(fio(i, append(job.flags, "--verify_only")...)); err != nil {
				t.Fatalf("%s after a remount: %v", job.name, err)
			}
		}
	})
}

// TestFioMixed reads, verifies and writes at once, with several jobs.
func TestFioMixed(t *testing.T) {
	onDisks(t, func(t *testing.T, v *volume) {
		c := command("fio", "--name=mixed", "--directory="+v.Dir(), "--ioengine=psync", "--rw=randrw", "--bs=4k", "--size=16m",
			"--numjobs=4", "--thread", "--verify=crc32c", "--verify_fatal=1", "--verify_backlog=256", "--verify_state_save=0",
			"--do_verify=1", "--fsync=128", "--minimal")
		c.Dir = v.scratch
		v.run(c)
	})
}
