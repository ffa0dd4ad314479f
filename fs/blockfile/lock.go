package blockfile

import (
	"fmt"

	"github.com/akvfs/akvfs/fs/format"
)

// Lock zeroes the file's key and every block of plaintext in memory. What was
// written and could not be committed is lost with that, because of cause: Lock
// reports whether there was such a thing, and from then on every Sync does,
// until the file is closed. Ciphertext stays: what is not at home, and what
// went home and is not committed.
//
// Nobody may use the file until Unlock, but for Close and what touches neither
// content nor size.
func (f *File) Lock(cause error) (lost bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.dirty) > 0 {
		err := fmt.Errorf("it was written but not synced, and lost as the volume was locked: %w", cause)
		f.lost.Store(&err)
	}
	f.dropDirty(0)
	if f.cipher != nil {
		f.cipher.Destroy()
	}
	failed := f.env.Journal != nil && f.ticket > f.env.Journal.Durable() // and so do all later syncs
	return failed || f.lost.Load() != nil
}

// Unlock opens the file's key again, with the keys that Env has now. If it
// fails the file stays locked.
func (f *File) Unlock() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || f.cipher == nil { // no header, no key
		return nil
	}
	id, cipher, err := f.readHeader(format.PageSize + 1) // nothing was written since it was there
	if err != nil {
		return err
	}
	if id != f.id {
		cipher.Destroy()
		return f.damage("header", -1, nil)
	}
	f.cipher = cipher
	return nil
}
