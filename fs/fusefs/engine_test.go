package fusefs

import (
	"bytes"
	"errors"
	"log/slog"
	"os"

	"github.com/google/uuid"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
)

// testKeys is a key hierarchy of one level, the same every time.
type testKeys struct{ master, secret *crypto.Key }

func newTestKeys() (*testKeys, error) {
	master, err := crypto.KeyFromBytes(bytes.Repeat([]byte{1}, crypto.KeySize))
	if err != nil {
		return nil, err
	}
	secret, err := crypto.KeyFromBytes(bytes.Repeat([]byte{2}, crypto.KeySize))
	return &testKeys{master, secret}, err
}

func (k *testKeys) WrapFileKey(file [16]byte, key *crypto.Key) ([16]byte, []byte, error) {
	w, err := crypto.WrapKey(k.master, key, file[:])
	return [16]byte{1}, w, err
}

func (k *testKeys) UnwrapFileKey(file, master [16]byte, wrapped []byte) (*crypto.Key, error) {
	if master != [16]byte{1} {
		return nil, errors.New("unknown master key")
	}
	return crypto.UnwrapKey(k.master, wrapped, file[:])
}

func (k *testKeys) VolumeKey(purpose string) (*crypto.Key, error) { return k.secret.Derive(purpose) }

// openEngine opens the volume in a directory, and makes one in an empty one.
func openEngine(names string) func(dir string, readOnly bool) (Volume, func() error, error) {
	return func(dir string, readOnly bool) (Volume, func() error, error) {
		keys, err := newTestKeys()
		if err != nil {
			return nil, nil, err
		}
		st, err := store.OpenDisk(dir)
		if err != nil {
			return nil, nil, err
		}
		if _, err := volume.ReadInfo(st); errors.Is(err, volume.ErrNotVolume) {
			_, err = volume.Create(st, volume.Config{Names: names, JournalSize: 16 << 20},
				func(uuid.UUID, volume.MetadataFiles) (volume.Keys, error) { return keys, nil })
			if err != nil {
				return nil, nil, err
			}
		}
		log := slog.New(slog.NewTextHandler(os.Stderr, nil))
		v, err := volume.Open(st, keys, volume.Options{ReadOnly: readOnly, Logger: log})
		if err != nil {
			return nil, nil, err
		}
		return engine{v}, func() error { return errors.Join(v.Close(), st.Close()) }, nil
	}
}

// unlockEngine unlocks with keys of its own.
func unlockEngine(v engine) error {
	keys, err := newTestKeys()
	if err != nil {
		return err
	}
	_, err = v.Unlock(keys)
	return err
}
