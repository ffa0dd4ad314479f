package volume

import (
	"bytes"
	"os"
	"testing"
	"time"

	"github.com/akvfs/akvfs/fs/store"
)

// TestQuietFileIsCommitted: what nobody synced survives a power cut once the
// writes have ended, however long the commit interval is.
func TestQuietFileIsCommitted(t *testing.T) {
	keys := newTestKeys(t, 41)
	st := store.NewMem(store.Options{})
	create(t, st, keys, NamesEncrypted, 1<<20)
	v, err := Open(st, keys, Options{CommitInterval: time.Hour})
	must(t, err)
	put(t, v, "f", "old")
	h, err := v.OpenFile("f", os.O_RDWR, 0, Owner{})
	must(t, err)
	must(t, h.Sync(false))
	want := bytes.Repeat([]byte("new"), 5000)
	_, err = h.WriteAt(want, 0)
	must(t, err)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if commit, _, _, _ := h.e.file.Pending(); !commit {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nobody commits")
		}
	}
	must(t, v.journal.Wait(v.journal.Last())) // begun is not done
	st = st.Crash(1)
	v.stopBackground()
	v = open(t, st, keys)
	defer v.Close()
	must(t, readBack(v, "f", want))
}
