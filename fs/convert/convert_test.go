package convert

import (
	"errors"
	"testing"

	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
)

func eachStore(t *testing.T, f func(t *testing.T, st store.FS, names string)) {
	for _, names := range []string{volume.NamesEncrypted, volume.NamesPlain} {
		t.Run("mem "+names, func(t *testing.T) { f(t, store.NewMem(store.Options{}), names) })
		t.Run("disk "+names, func(t *testing.T) {
			st, err := store.OpenDisk(t.TempDir())
			must(t, err)
			defer st.Close()
			f(t, st, names)
		})
	}
}

// TestThereAndBack wants everything that tells one object from another to be
// the same in the volume, and the same again after.
func TestThereAndBack(t *testing.T) {
	keys := newTestKeys(t, 1)
	eachStore(t, func(t *testing.T, st store.FS, names string) {
		fill(t, st)
		want := pictureOf(t, plain{st})
		r, err := Encrypt(t.Context(), st, keys.config(names))
		must(t, err)
		if r.Files != 10 || r.Resumed {
			t.Errorf("report: %+v", r)
		}
		same(t, "encrypted", keys.sealedPicture(t, st), want)
		noPlaintext(t, st, ".", names == volume.NamesEncrypted)
		if _, err := Encrypt(t.Context(), st, keys.config(names)); !errors.Is(err, ErrVolume) {
			t.Errorf("twice: %v", err)
		}
		_, err = Decrypt(t.Context(), st, keys.config(names))
		must(t, err)
		same(t, "decrypted", pictureOf(t, plain{st}), want)
		if _, err := Decrypt(t.Context(), st, keys.config(names)); !errors.Is(err, ErrNothing) {
			t.Errorf("twice: %v", err)
		}
	})
}
