package volume

import (
	"errors"
	"io"
	"os"
	"path"
	"syscall"

	"github.com/akvfs/akvfs/fs/store"
)

// MetadataFiles reads and replaces small files of a volume's metadata
// directory, such as the keyring. It serves one writer at a time.
type MetadataFiles struct{ st store.FS }

// Metadata gives access to the metadata files of the volume in st.
func Metadata(st store.FS) MetadataFiles { return MetadataFiles{st} }

const maxMetadataBytes = 4 << 20

// ReadFile returns a file's content. A file of more than 4 MiB is EFBIG.
func (m MetadataFiles) ReadFile(name string) ([]byte, error) {
	f, err := m.st.OpenFile(path.Join(MetaDir, name), os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	attr, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if attr.Size > maxMetadataBytes {
		return nil, syscall.EFBIG
	}
	data := make([]byte, attr.Size)
	n, err := f.ReadAt(data, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return data[:n], err
}

// ReplaceFile replaces a file atomically: after a crash it has the old or
// the new content, and after ReplaceFile returned the new one. The old
// content is kept under name.prev.
func (m MetadataFiles) ReplaceFile(name string, data []byte) error {
	if old, err := m.ReadFile(name); err == nil {
		if err := m.write(name+".prev", old); err != nil {
			return err
		}
	} else if !errors.Is(err, syscall.ENOENT) {
		return err
	}
	return m.write(name, data)
}

// Restore puts what ReplaceFile has kept of a file back in its place,
// atomically. The kept copy stays.
func (m MetadataFiles) Restore(name string) error {
	old, err := m.ReadFile(name + ".prev")
	if err != nil {
		return err
	}
	return m.write(name, old)
}

// write puts data under name by way of a temporary file.
func (m MetadataFiles) write(name string, data []byte) error {
	target := path.Join(MetaDir, name)
	tmp := target + ".tmp"
	if err := m.st.Unlink(tmp); err != nil && !errors.Is(err, syscall.ENOENT) {
		return err
	}
	if err := writeNew(m.st, tmp, data); err != nil {
		return errors.Join(err, m.st.Unlink(tmp))
	}
	if err := m.st.Rename(tmp, target, 0); err != nil {
		return err
	}
	return m.st.SyncDir(MetaDir)
}

// writeNew makes a durable file that must not exist.
func writeNew(st store.FS, name string, data []byte) error {
	f, err := st.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt(data, 0); err != nil {
		return err
	}
	return f.Sync()
}
