package volume

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
)

// TestClosedFilesAreLetGoOf: files that were made and closed, empty or read
// after a change of names, do not stay open for ever.
func TestClosedFilesAreLetGoOf(t *testing.T) {
	keys := newTestKeys(t, 43)
	st := store.NewMem(store.Options{})
	create(t, st, keys, NamesEncrypted, 1<<20)
	v, err := Open(st, keys, Options{})
	must(t, err)
	defer v.Close()
	for i := range 3 * manyFiles {
		h, err := v.OpenFile(fmt.Sprint(i), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600, Owner{})
		must(t, err)
		must(t, h.Close())
	}
	h, err := v.OpenFile("0", os.O_RDONLY, 0, Owner{})
	must(t, err)
	must(t, v.Checkpoint())
	if n := v.table.len(); n != 1 {
		t.Errorf("%d files are open, 1 is held", n)
	}
	must(t, h.Close())
	must(t, v.Rename("1", "one", 0))
	_, err = v.OpenFile("2", os.O_RDONLY, 0, Owner{})
	must(t, err)
	must(t, v.Checkpoint())
	if n := v.table.len(); n != 1 {
		t.Errorf("%d files are open, 1 is held", n)
	}
}

// TestManyFilesAtOnce: whoever makes more files than there are descriptors,
// one after the other, gets them all.
func TestManyFilesAtOnce(t *testing.T) {
	var limit unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	few := limit
	few.Cur = 256
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &few))
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	keys := newTestKeys(t, 44)
	st := store.NewMem(store.Options{})
	create(t, st, keys, NamesEncrypted, 1<<20)
	v, err := Open(st, keys, Options{})
	must(t, err)
	defer v.Close()
	for i := range 1000 {
		h, err := v.OpenFile(fmt.Sprint(i), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600, Owner{})
		must(t, err)
		must(t, h.Close())
	}
}
