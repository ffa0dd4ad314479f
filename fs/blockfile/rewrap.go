package blockfile

import (
	"errors"
	"fmt"
	"io"

	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/store"
)

// Rewrap sees to it that the file's key is wrapped by the master key of that
// ID, the one that Keys wraps with, and tells how many bytes it wrote: none,
// or one slot of the header. No block changes, and neither does the time of
// modification. It is durable after SyncHome. A file without a header has
// nothing to re-wrap: one that it gets later is under the active key.
func (f *File) Rewrap(master [16]byte) (int, error) {
	f.home.Lock()
	defer f.home.Unlock()
	// Exclusive, so that nothing goes home directly and sets the time meanwhile.
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || f.cipher == nil {
		return 0, nil
	}
	n, err := RewrapHome(f.env.Keys, f.back, f.path, master)
	if n > 0 {
		f.unsynced.add()
	}
	return n, err
}

// SyncHome makes durable what is at home.
func (f *File) SyncHome() error {
	f.home.Lock()
	defer f.home.Unlock()
	return f.syncHome()
}

// RewrapHome is Rewrap for a backing file that nobody else writes meanwhile.
// It is durable after a Datasync. Errors are an *IntegrityError, which is not
// reported as damage, or wrap the keys' or the store's.
func RewrapHome(keys Keys, back store.File, path string, master [16]byte) (int, error) {
	h, err := ReadHeader(back, path)
	if err != nil || h == nil {
		return 0, err
	}
	old, _ := h.Current()
	if old.MasterKey == master {
		return 0, nil
	}
	wrapped, by, err := rewrapped(keys, h.ID, old)
	if err != nil {
		return 0, fmt.Errorf("the key of %q: %w", path, err)
	}
	attr, err := back.Stat()
	if err != nil {
		return 0, err
	}
	sector, off := h.Replace(by, wrapped)
	if _, err := back.WriteAt(sector[:], off); err != nil {
		return 0, err
	}
	return len(sector), back.Chtimes(nil, &attr.Mtime)
}

// rewrapped wraps a file's key under the active master key, and proves it:
// what comes back from an unwrap must be the same key.
func rewrapped(keys Keys, id format.FileID, old format.Slot) (wrapped [format.WrappedKeySize]byte, by [16]byte, err error) {
	key, err := keys.UnwrapFileKey(id, old.MasterKey, old.Wrapped[:])
	if err != nil {
		return wrapped, by, err
	}
	defer key.Destroy()
	by, again, err := keys.WrapFileKey(id, key)
	if err != nil {
		return wrapped, by, err
	}
	proof, err := keys.UnwrapFileKey(id, by, again)
	if err != nil {
		return wrapped, by, err
	}
	defer proof.Destroy()
	if !proof.Equal(key) {
		return wrapped, by, errors.New("a file key that was wrapped to prove it came back as another")
	}
	return [format.WrappedKeySize]byte(again), by, nil
}

// ReadHeader reads a backing file's header; nil if it has none: an empty file,
// or one that was being made when the power was cut.
func ReadHeader(back store.File, path string) (*format.Header, error) {
	page := make([]byte, format.PageSize)
	n, err := back.ReadAt(page, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	h, err := format.ParseHeader(page[:n])
	if err == nil {
		return h, nil
	}
	attr, statErr := back.Stat()
	if statErr != nil {
		return nil, fmt.Errorf("header of %q: %w", path, statErr)
	}
	if errors.Is(err, format.ErrHeader) && attr.Size <= format.PageSize {
		return nil, nil
	}
	return nil, &IntegrityError{Path: path, What: "header", Number: -1, Err: err}
}
