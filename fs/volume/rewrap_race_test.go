package volume

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/keymgr"
)

// slowKeys stop after a file key was wrapped, until they are told to go on.
type slowKeys struct {
	*keymgr.MasterKeys
	armed   atomic.Bool
	wrapped chan struct{}
	on      chan struct{}
}

func (k *slowKeys) WrapFileKey(file [16]byte, key *crypto.Key) ([16]byte, []byte, error) {
	mk, wrapped, err := k.MasterKeys.WrapFileKey(file, key)
	if k.armed.CompareAndSwap(true, false) {
		close(k.wrapped)
		<-k.on
	}
	return mk, wrapped, err
}

// TestRewrapWhileAHeaderIsMade: a file whose key was wrapped by the old master
// key just before the rotation, and whose header comes after the walk has seen
// that there is none, is not forgotten.
func TestRewrapWhileAHeaderIsMade(t *testing.T) {
	st := store.NewMem(store.Options{})
	k := newKeyed(t, st, NamesPlain)
	empty, err := k.v.OpenFile("late", os.O_RDWR|os.O_CREATE, 0o600, Owner{})
	must(t, errors.Join(err, empty.Close(), k.v.Close()))
	slow := &slowKeys{MasterKeys: k.keys, wrapped: make(chan struct{}), on: make(chan struct{})}
	k.v, err = Open(st, slow, Options{})
	must(t, err)

	h, err := k.v.OpenFile("late", os.O_RDWR, 0, Owner{})
	must(t, err)
	slow.armed.Store(true)
	var writer sync.WaitGroup
	writer.Go(func() {
		_, err := h.WriteAt([]byte("content"), 0)
		if err := errors.Join(err, h.Sync(false), h.Close()); err != nil {
			t.Error(err)
		}
	})
	<-slow.wrapped
	_, err = k.rotate()
	must(t, err)
	release := sync.OnceFunc(func() { close(slow.on) })
	var seen atomic.Bool
	st.SetHook(func(op store.Op) error {
		if op.Kind == store.OpClose && op.Name == "late" && !seen.Swap(true) {
			release() // the walk has found no header
			writer.Wait()
			must(t, k.v.Checkpoint()) // and the file is closed
		}
		return nil
	})
	// A walk that waits for the writer, as it should, goes on then.
	time.AfterFunc(50*time.Millisecond, release)
	_, err = k.rewrap()
	must(t, err)
	st.SetHook(nil)
	writer.Wait()
	must(t, k.close())
	must(t, k.open(st))
	must(t, readBack(k.v, "late", []byte("content")))
	must(t, k.close())
}
