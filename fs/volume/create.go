package volume

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/journal"
	"github.com/akvfs/akvfs/fs/store"
)

// Config is what is chosen for a new volume, for ever.
type Config struct {
	Cluster string
	Names   string // NamesEncrypted, which is the default, or NamesPlain
	// JournalSize is in bytes; 0 stands for journal.DefaultSize.
	JournalSize int64
	Now         time.Time
}

// Create makes a volume in an empty directory; lost+found does not count.
// makeKeys is called once the metadata directory exists: it stores the
// keyring there and returns the keys. A failure, or ErrIncomplete leavings of
// an earlier one, is cleaned up. volume.json comes last: without it there is
// no volume.
func Create(st store.FS, cfg Config, makeKeys func(id uuid.UUID, meta MetadataFiles) (Keys, error)) (id uuid.UUID, err error) {
	if cfg.Names == "" {
		cfg.Names = NamesEncrypted
	}
	if cfg.Names != NamesEncrypted && cfg.Names != NamesPlain {
		return uuid.Nil, fmt.Errorf("names are %q or %q, not %q: %w", NamesEncrypted, NamesPlain, cfg.Names, syscall.EINVAL)
	}
	if err := checkEmpty(st); err != nil {
		return uuid.Nil, err
	}
	if id, err = uuid.NewRandom(); err != nil {
		return uuid.Nil, err
	}
	if err := st.Mkdir(MetaDir, 0o700); err != nil {
		return uuid.Nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, removeMeta(st))
		}
	}()
	keys, err := makeKeys(id, Metadata(st))
	if err != nil {
		return uuid.Nil, err
	}
	return id, fill(st, cfg, id, keys)
}

// fill writes everything but the keyring.
func fill(st store.FS, cfg Config, id uuid.UUID, keys Keys) error {
	if err := createJournal(st, cfg.JournalSize, id, keys); err != nil {
		return err
	}
	if err := writeNew(st, lockName, nil); err != nil {
		return err
	}
	info := Info{Format: FormatVersion, ID: id, Cluster: cfg.Cluster, Names: cfg.Names, Created: cfg.Now.UTC(), Features: []string{}}
	if cfg.Now.IsZero() {
		info.Created = time.Now().UTC()
	}
	info.Created = info.Created.Truncate(time.Second)
	var err error
	if info.MAC, err = info.mac(keys); err != nil {
		return err
	}
	data, err := info.encode()
	if err != nil {
		return err
	}
	if err := st.SyncDir("."); err != nil {
		return err
	}
	if err := Metadata(st).write(infoKept, data); err != nil {
		return err
	}
	return Metadata(st).ReplaceFile(InfoFile, data)
}

// NewJournal makes the journal of the smallest size for a copy of a volume
// that has none.
func NewJournal(st store.FS, id uuid.UUID, keys Keys) error {
	return createJournal(st, journal.MinSize, id, keys)
}

func createJournal(st store.FS, size int64, id uuid.UUID, keys Keys) error {
	return createJournalIn(st, JournalDir, size, id, keys, 0)
}

func createJournalIn(st store.FS, dir string, size int64, id uuid.UUID, keys Keys, before uint64) error {
	if size == 0 {
		size = journal.DefaultSize
	}
	if err := journal.Create(st, dir, size); err != nil {
		return err
	}
	nonces, err := crypto.NewNonceSource()
	if err != nil {
		return err
	}
	cfg, err := journalConfig(id, keys, nonces)
	if err != nil {
		return err
	}
	defer cfg.Cipher.Destroy()
	return journal.Initialize(st, dir, cfg, before)
}

func journalConfig(id uuid.UUID, keys Keys, nonces *crypto.NonceSource) (journal.Config, error) {
	cipher, err := volumeCipher(keys, "journal")
	return journal.Config{Volume: id, Cipher: cipher, Nonces: nonces}, err
}

func volumeCipher(keys Keys, purpose string) (*crypto.BlockCipher, error) {
	key, err := keys.VolumeKey(purpose)
	if err != nil {
		return nil, err
	}
	return crypto.NewBlockCipher(key)
}

// checkEmpty refuses a directory with anything in it, and removes what an
// interrupted Create left.
func checkEmpty(st store.FS) error {
	entries, err := st.ReadDir(".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch e.Name {
		case "lost+found":
		case MetaDir:
			if _, err := ReadInfo(st); !errors.Is(err, ErrIncomplete) {
				return fmt.Errorf("%w: it holds a volume already", ErrNotEmpty)
			}
			if err := removeMeta(st); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%w: it holds %q", ErrNotEmpty, e.Name)
		}
	}
	return nil
}

// removeMeta removes the metadata directory of a volume that never was.
func removeMeta(st store.FS) error { return store.RemoveAll(st, MetaDir) }
