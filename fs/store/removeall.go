package store

import (
	"errors"
	"path"

	"golang.org/x/sys/unix"
)

// RemoveAll removes a directory with all that is in it. A missing one is
// removed already; one that fails half-way leaves the rest.
func RemoveAll(st FS, dir string) error {
	entries, err := st.ReadDir(dir)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name)
		if e.Type&unix.S_IFMT == unix.S_IFDIR {
			err = RemoveAll(st, name)
		} else {
			err = st.Unlink(name)
		}
		if err != nil {
			return err
		}
	}
	return st.Rmdir(dir)
}
