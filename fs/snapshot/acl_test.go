package snapshot

import (
	"path/filepath"
	"testing"

	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
)

// TestACLs: a snapshot, and what is restored from it, has the ACLs of the
// volume, the root's too, and what had none inherits none.
func TestACLs(t *testing.T) {
	// Version 2; owner, user 1, group, mask, other.
	acl := []byte{2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 6, 0, 1, 0, 0, 0, 4, 0, 5, 0, 255, 255, 255, 255,
		16, 0, 7, 0, 255, 255, 255, 255, 32, 0, 1, 0, 255, 255, 255, 255}
	for _, guarded := range []bool{false, true} {
		s := newScene(t, volume.NamesEncrypted)
		if guarded {
			s.close()
			disk, err := store.OpenDisk(s.backing)
			must(t, err)
			must(t, volume.SetRoot(disk, 0o751, 1001, 1002))
			must(t, disk.Close())
			s.open()
		}
		must(t, s.v.Mkdir("d", 0o755, volume.Owner{}))
		s.write("d/without", []byte("x"), 0)
		must(t, s.v.Setxattr("d", store.ACLDefault, acl, 0))
		s.write("d/inherits", []byte("x"), 0)
		must(t, s.v.Mkdir("d/sub", 0o755, volume.Owner{}))
		for _, attr := range []string{store.ACLAccess, store.ACLDefault} {
			must(t, s.v.Setxattr(".", attr, acl, 0))
		}
		// Where snapshots and restored volumes are made hands down others.
		scene, err := store.OpenDisk(s.dir)
		must(t, err)
		other := append([]byte{}, acl...)
		other[14], other[38] = 7, 7 // user 1's, and the others'
		must(t, scene.Setxattr(".", store.ACLDefault, other, 0))
		must(t, scene.Close())
		want := aclsOf(t, s.v)
		if len(want) != 6 {
			t.Fatalf("%v", want)
		}
		s.create("one")
		s.sound("one")
		restored := filepath.Join(s.dir, "restored")
		s.restore("one", restored)
		_, keys, v := s.openAt(restored)
		got := aclsOf(t, v)
		for name, value := range want {
			if got[name] != value {
				t.Errorf("guarded %v: %s is %x, not %x", guarded, name, got[name], value)
			}
		}
		if len(got) != len(want) {
			t.Errorf("guarded %v: %v", guarded, got)
		}
		must(t, v.Close())
		keys.Destroy()
	}
}

func aclsOf(t *testing.T, v *volume.Volume) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, name := range []string{".", "d", "d/without", "d/inherits", "d/sub"} {
		attrs, err := v.Listxattr(name)
		must(t, err)
		for _, attr := range attrs {
			value, err := v.Getxattr(name, attr)
			must(t, err)
			found[name+" "+attr] = string(value)
		}
	}
	return found
}
