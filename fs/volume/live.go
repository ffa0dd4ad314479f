package volume

import (
	"errors"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/journal"
)

// What a check of a volume in use needs, beside Scrub.

// Opened is when the volume was opened.
func (v *Volume) Opened() time.Time { return v.opened }

// CheckJournal proves the frames that recovery would need if the host fell now.
// A volume that is open for reading only has none. Errors are a
// *journal.CorruptError, ErrLocked or the store's.
func (v *Volume) CheckJournal() error {
	if v.journal == nil {
		return nil
	}
	err := v.inside(func() error { return v.journal.Check(v.st, JournalDir) })
	if errors.Is(err, journal.ErrClosed) || v.journal.Stats().Failed {
		return nil // it takes nothing more, which is told elsewhere
	}
	return err
}

// NamesHeld runs look while no name is changed. It must be short.
func (v *Volume) NamesHeld(look func() error) error {
	return v.inside(func() error {
		v.tree.Lock()
		defer v.tree.Unlock()
		return look()
	})
}

// WalkBacking calls visit for each directory of the backing tree, with the
// names in it. Directories that go meanwhile are passed over.
func (v *Volume) WalkBacking(visit func(dir string, names map[string]bool) error) error {
	return v.walkBacking(".", visit)
}

func (v *Volume) walkBacking(dir string, visit func(dir string, names map[string]bool) error) error {
	if err := v.inside(func() error { return nil }); err != nil {
		return err
	}
	entries, err := v.st.ReadDir(dir)
	if err != nil {
		return ignoreGone(err)
	}
	names := make(map[string]bool, len(entries))
	var below []string
	for _, e := range entries {
		names[e.Name] = true
		if e.Type&unix.S_IFMT == unix.S_IFDIR && (dir != "." || e.Name != MetaDir) {
			below = append(below, path.Join(dir, e.Name))
		}
	}
	if err := visit(dir, names); err != nil {
		return err
	}
	for _, d := range below {
		if err := v.walkBacking(d, visit); err != nil {
			return err
		}
	}
	return nil
}
