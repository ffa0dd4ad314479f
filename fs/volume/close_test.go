package volume

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
)

// TestCloseLeavesNothing: a punch that is of no block whole hands over what was
// written before it, and waits for nothing. A close waits: else the next open
// would find a record to bring home, and with it an older time of modification.
func TestCloseLeavesNothing(t *testing.T) {
	st := store.NewMem(store.Options{})
	keys := newTestKeys(t, 9)
	create(t, st, keys, NamesEncrypted, 1<<20)
	v := open(t, st, keys)
	h, err := v.OpenFile("f", os.O_RDWR|os.O_CREATE, 0o600, Owner{})
	must(t, err)
	_, err = h.WriteAt(make([]byte, 13383), 0)
	must(t, err)
	old, later := time.Unix(11152, 5), time.Unix(22222, 7)
	must(t, h.Chtimes(&old, &old))
	must(t, h.Allocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 48, 4096))
	must(t, h.Chtimes(nil, &later))
	must(t, h.Close())
	must(t, v.Close())
	v = open(t, st, keys)
	defer v.Close()
	if n := v.Stats().Recovery.Records; n != 0 {
		t.Errorf("%d records to recover", n)
	}
	if a, err := v.Stat("f"); err != nil || !a.Mtime.Equal(later) {
		t.Errorf("modified %v, %v", a.Mtime, err)
	}
}
