// Package replace replaces small files outside of volumes: a daemon's records,
// and the configuration.
//
// Invariants:
//   - Readers find a file as it was or as it is to be, and nothing in between.
//   - What a function here has done is durable when it returns nil. After an
//     error a file may be the old one or the new one.
//   - A temporary file lies beside the file that it is to replace, under a name
//     that begins with a period: never in a directory that others can write to,
//     and where somebody who lists its directory passes over it.
//
// Writers of one file need no lock for its sake. What one leaves that was
// killed is removed when the same file is next written, an hour later or more.
package replace

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
)

const (
	// leftAfter is how old a temporary file is whose writer is gone. A writer
	// that takes longer fails, and has changed nothing.
	leftAfter = time.Hour
	// leftDigits is how many digits the end of its name has at least, so that it
	// is not taken for somebody's copy with a date: nearly all random numbers
	// that renameio draws have more.
	leftDigits = 16
)

// File makes or replaces a file. One that is there keeps its permissions; a new
// one gets perm, whatever the umask.
func File(path string, data []byte, perm os.FileMode) error {
	clearLeft(path)
	dir := filepath.Dir(path)
	err := renameio.WriteFile(path, data, perm, renameio.IgnoreUmask(), renameio.WithTempDir(dir))
	if err != nil {
		return err
	}
	return SyncDir(dir)
}

// clearLeft removes what killed writers of a file have left. What cannot be
// removed does no harm.
func clearLeft(path string) {
	dir := filepath.Dir(path)
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		number, ok := strings.CutPrefix(e.Name(), "."+filepath.Base(path))
		if !ok || len(number) < leftDigits || strings.Trim(number, "0123456789") != "" || !e.Type().IsRegular() {
			continue
		}
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > leftAfter {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// Remove removes a file; it may be missing.
func Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// Also if it was missing: whoever removed it may have died before this.
	err := SyncDir(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Dir makes a directory for its owner alone, and its parents, as far as they
// are missing.
func Dir(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(path)
	if err := Dir(parent); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return SyncDir(parent)
}

// SyncDir makes the names in a directory durable.
func SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
