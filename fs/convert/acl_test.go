package convert

import (
	"errors"
	"path"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
)

// aclOf is version 2; owner, user 1, group, mask, other.
func aclOf(user, other byte) []byte {
	return []byte{2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, user, 0, 1, 0, 0, 0, 4, 0, 5, 0, 255, 255, 255, 255,
		16, 0, 7, 0, 255, 255, 255, 255, 32, 0, other, 0, 255, 255, 255, 255}
}

// acls are those of a tree, by path and attribute.
func acls(t *testing.T, list func(dir string) ([]store.DirEntry, error), get func(name, attr string) ([]byte, error)) map[string]string {
	t.Helper()
	found := map[string]string{}
	var walk func(name string, kind uint32)
	walk = func(name string, kind uint32) {
		for _, attr := range []string{store.ACLAccess, store.ACLDefault} {
			value, err := get(name, attr)
			if err == nil {
				found[name+" "+attr] = string(value)
			} else if !errors.Is(err, syscall.ENODATA) && !errors.Is(err, syscall.EOPNOTSUPP) {
				t.Fatal(err)
			}
		}
		if kind != unix.S_IFDIR {
			return
		}
		entries, err := list(name)
		must(t, err)
		for _, e := range entries {
			if name != "." || e.Name != volume.MetaDir {
				walk(path.Join(name, e.Name), e.Type)
			}
		}
	}
	walk(".", unix.S_IFDIR)
	return found
}

// TestACLs: a tree has the same ACLs after an encryption, as its volume shows
// them, and after the decryption. What is made on the way inherits none.
func TestACLs(t *testing.T) {
	keys := newTestKeys(t, 35)
	st, err := store.OpenDisk(t.TempDir())
	must(t, err)
	defer st.Close()
	must(t, st.Mkdir("db", 0o755))
	db := store.NewSub(st, "db")
	fill(t, db)
	must(t, db.Mkdir("closed", 0o755))
	must(t, db.Setxattr("closed", store.ACLDefault, aclOf(6, 0), 0))
	must(t, db.Mkdir("closed/inner", 0o750))
	put(t, db, "closed/inherits", 1, map[int64]string{0: "x"})
	put(t, db, "closed/without", 1, map[int64]string{0: "x"})
	must(t, db.Removexattr("closed/without", store.ACLAccess))
	must(t, db.Setxattr("zero", store.ACLAccess, aclOf(4, 5), 0))
	must(t, db.Setxattr(".", store.ACLAccess, aclOf(5, 0), 0))
	must(t, db.Setxattr(".", store.ACLDefault, aclOf(7, 7), 0))
	want := acls(t, db.ReadDir, db.Getxattr)
	if len(want) < 7 {
		t.Fatalf("only %v", want)
	}
	_, err = Encrypt(t.Context(), db, keys.config(volume.NamesEncrypted))
	must(t, err)
	v, err := volume.Open(db, keys, volume.Options{ReadOnly: true})
	must(t, err)
	same(t, "in the volume", acls(t, v.ReadDir, v.Getxattr), want)
	must(t, v.Close())
	_, err = Decrypt(t.Context(), db, keys.config(volume.NamesEncrypted))
	must(t, err)
	same(t, "decrypted", acls(t, db.ReadDir, db.Getxattr), want)
}
