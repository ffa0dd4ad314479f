package snapshot

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
)

// TestGuardedRoot: a snapshot of a volume whose backing directory is closed to
// the database is closed to it too, and so is what is restored from it; both
// show the owner and mode that the volume shows.
func TestGuardedRoot(t *testing.T) {
	s := newScene(t, volume.NamesEncrypted)
	s.close()
	disk, err := store.OpenDisk(s.backing)
	must(t, err)
	must(t, volume.SetRoot(disk, 0o751, 1001, 1002))
	must(t, disk.Close())
	s.open()
	s.write("file", []byte("content"), 0)
	s.create("one")
	s.sound("one")
	snap, err := s.c.Get("one")
	must(t, err)
	restored := filepath.Join(s.dir, "restored")
	s.restore("one", restored)
	for _, dir := range []string{snap.Dir, restored} {
		fi, err := os.Stat(dir)
		must(t, err)
		if fi.Mode().Perm() != 0o700 {
			t.Errorf("%s is open to others: %v", dir, fi.Mode())
		}
		disk, err := store.OpenDisk(dir)
		must(t, err)
		attr, err := volume.StatRoot(disk)
		must(t, err)
		if attr.Mode&0o7777 != 0o751 || attr.UID != 1001 || attr.GID != 1002 {
			t.Errorf("%s shows %+v", dir, attr)
		}
		must(t, disk.Close())
	}
}
