package fsck

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/journal"
	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
)

const prevName = keymgr.KeyringFile + ".prev"

// own are the names that a volume has in its own directory.
var own = []string{
	volume.InfoFile, volume.InfoFile + ".prev", keymgr.KeyringFile, prevName, "journal", "lock", "root",
	"snapshots.json", "snapshots.json.prev", "journal.json", "journal.json.prev",
	"manifest.json", "contents.jsonl", "staging", "restoring.json", "restoring.json.prev",
}

func inMeta(name string) volume.Path { return volume.Path(path.Join(volume.MetaDir, name)) }

// description checks volume.json. ok is false if it is damaged; the error is
// volume.ReadInfo's where there is no volume, or a newer one.
func (c *check) description(keys volume.Keys) (ok bool, err error) {
	c.info, err = volume.CheckInfo(c.st, keys)
	_, edited := errors.AsType[*volume.IntegrityError](err)
	switch {
	case err == nil:
		c.report.Volume = c.info.ID.String()
		return true, nil
	case edited, isDamaged(c.st, err):
		c.descriptionDamaged(err.Error())
		return false, nil
	}
	return false, err
}

// provenDescription proves the description with the keys, and its copy. One
// that does not verify is found out if it can be.
func (c *check) provenDescription(ctx context.Context) (ok bool, err error) {
	if c.keys == nil {
		return false, nil
	}
	if ok, err = c.description(c.keys); err == nil && !ok {
		ok, err = c.findDescription(ctx, false)
	}
	if err != nil || !ok {
		return false, err
	}
	return true, c.keptDescription()
}

// Identify reads a volume's description as far as that goes. A damaged one is no
// error, and gives less: the ID is then the keyring's, if that reads. Errors are volume.ReadInfo's where there is no volume,
// or a newer one.
func Identify(st store.FS) (volume.Info, error) {
	info, err := volume.ReadInfo(st)
	_, edited := errors.AsType[*volume.IntegrityError](err)
	if !edited && !isDamaged(st, err) {
		return info, err
	}
	if keyring, err := keymgr.LoadKeyring(volume.Metadata(st)); err == nil {
		info.ID = keyring.Volume()
	}
	return info, nil
}

// isDamaged tells a volume whose description cannot be read from a directory
// that is none.
func isDamaged(st store.FS, err error) bool {
	if !errors.Is(err, volume.ErrNotVolume) || errors.Is(err, volume.ErrIncomplete) || errors.Is(err, volume.ErrConverting) {
		return false
	}
	_, statErr := st.Stat(string(inMeta(volume.InfoFile)))
	return statErr == nil
}

// leftovers finds what interrupted operations left among the volume's own files.
func (c *check) leftovers() error {
	entries, err := c.st.ReadDir(volume.MetaDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch {
		case slices.Contains(own, e.Name):
		case isTemporary(e.Name):
			c.report.add(Finding{Kind: Leftover, Path: inMeta(e.Name), Detail: "an interrupted operation left it"})
		default:
			c.report.note("%s is nothing that this version of akvfs knows", inMeta(e.Name))
		}
	}
	return nil
}

// isTemporary reports whether akvfs itself removes what has this name as soon
// as it would make it anew.
func isTemporary(name string) bool {
	return name == "journal.new" || strings.HasSuffix(name, ".json.tmp") || strings.HasSuffix(name, ".json.prev.tmp")
}

// keyringForm checks the keyring and its kept copy as far as that goes without
// keys. fine is false if the keyring itself is damaged.
func (c *check) keyringForm() (fine bool, err error) {
	keyring, err := keymgr.LoadKeyring(volume.Metadata(c.st))
	if err == nil && c.info.Format > 0 && keyring.Volume() != c.info.ID {
		err = &keymgr.IntegrityError{File: keymgr.KeyringFile, Reason: "it belongs to volume " + keyring.Volume().String()}
	}
	if newer, ok := errors.AsType[*keymgr.NewerFormatError](err); ok {
		return false, newer
	}
	fine = err == nil
	if _, damaged := errors.AsType[*keymgr.IntegrityError](err); damaged || errors.Is(err, keymgr.ErrNoKeyring) {
		c.keyringDamaged(err)
	} else if err != nil {
		return false, err
	}
	_, err = c.kept()
	if _, damaged := errors.AsType[*keymgr.IntegrityError](err); damaged {
		c.report.add(Finding{Kind: KeyringCopy, Path: inMeta(prevName), Detail: err.Error()})
		err = nil
	}
	return fine, err
}

func (c *check) keyringDamaged(err error) {
	c.report.add(Finding{Kind: Keyring, Path: inMeta(keymgr.KeyringFile), Detail: err.Error()})
}

// kept is the keyring before; nil if there is none.
func (c *check) kept() (*keymgr.Keyring, error) {
	keyring, err := keymgr.LoadKeyring(keptKeyring{volume.Metadata(c.st)})
	if errors.Is(err, keymgr.ErrNoKeyring) {
		return nil, nil
	}
	return keyring, err
}

// keptKeyring is a volume's metadata with the kept copy of the keyring in the
// keyring's place. It is for reading.
type keptKeyring struct{ meta volume.MetadataFiles }

// ReadFile is keymgr.Storage's.
func (k keptKeyring) ReadFile(name string) ([]byte, error) { return k.meta.ReadFile(name + ".prev") }

// ReplaceFile is keymgr.Storage's.
func (k keptKeyring) ReplaceFile(string, []byte) error { return syscall.EROFS }

// openKeys opens the volume's keys: with the keyring or, if that is damaged,
// with its kept copy. Where neither opens them because of damage, keys is nil;
// else the error says why the keys cannot be had.
func (c *check) openKeys(ctx context.Context, fine bool) (keys *keymgr.MasterKeys, err error) {
	meta := volume.Metadata(c.st)
	if fine {
		keys, err = c.opts.Keys(ctx, meta, c.info.ID)
		if err == nil {
			return keys, c.proveKept(ctx, keys)
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	_, damaged := errors.AsType[*keymgr.IntegrityError](err)
	if fine && !damaged && c.sameKeys() {
		return nil, err // the copy asks for the same, and would wait for it again
	}
	kept, keptErr := c.opts.Keys(ctx, keptKeyring{meta}, c.info.ID)
	if keptErr != nil {
		switch _, also := errors.AsType[*keymgr.IntegrityError](keptErr); {
		case fine && !damaged:
			return nil, err
		case damaged:
			c.keyringDamaged(err)
		case !also && !errors.Is(keptErr, keymgr.ErrNoKeyring):
			return nil, keptErr // the copy may be well, and its key is out of reach
		}
		return nil, nil
	}
	if fine && !damaged && !c.forged(kept) {
		kept.Destroy()
		return nil, err // the keyring is as it was written, and its key is gone
	}
	if fine {
		c.keyringDamaged(err)
	}
	c.fromKept = true
	return kept, nil
}

// sameKeys reports whether the keyring and its copy are wrapped by the same
// versions of the same keys.
func (c *check) sameKeys() bool {
	keyring, err := keymgr.LoadKeyring(volume.Metadata(c.st))
	kept, keptErr := c.kept()
	if err != nil || keptErr != nil || kept == nil {
		return false
	}
	return slices.EqualFunc(keyring.Wraps(), kept.Wraps(), func(a, b keymgr.Wrap) bool {
		return a.AKI == b.AKI && a.Version == b.Version && bytes.Equal(a.Ciphertext, b.Ciphertext)
	})
}

// forged reports whether keys of the copy show the keyring to be damaged.
func (c *check) forged(keys *keymgr.MasterKeys) bool {
	keyring, err := keymgr.LoadKeyring(volume.Metadata(c.st))
	if err != nil {
		return true
	}
	known, err := keys.Prove(keyring)
	return known && err != nil
}

// proveKept proves the keyring's kept copy.
func (c *check) proveKept(ctx context.Context, keys *keymgr.MasterKeys) error {
	kept, err := c.kept()
	if kept == nil || err != nil {
		return nil // there is none, or its form has been told of
	}
	known, err := keys.Prove(kept)
	if !known {
		var other *keymgr.MasterKeys
		if other, err = c.opts.Keys(ctx, keptKeyring{volume.Metadata(c.st)}, c.info.ID); err == nil {
			other.Destroy()
		}
	}
	if _, damaged := errors.AsType[*keymgr.IntegrityError](err); damaged {
		c.report.add(Finding{Kind: KeyringCopy, Path: inMeta(prevName), Detail: err.Error()})
	} else if err != nil {
		c.report.note("%s cannot be proven: %v", inMeta(prevName), err)
	}
	return ctx.Err()
}

// journalShape checks the journal without its key, and tells whether the volume
// was closed cleanly.
func (c *check) journalShape() (clean bool, err error) {
	shape, err := journal.Look(c.st, volume.JournalDir)
	var corrupt *journal.CorruptError
	if errors.As(err, &corrupt) || errors.Is(err, fs.ErrNotExist) {
		c.journalDamaged(err)
		return false, nil
	}
	if err == nil && !shape.Clean {
		c.report.note("the volume was not closed cleanly: %d frames of its journal wait for the next mount", shape.Needed)
	}
	return shape.Clean, err
}

func (c *check) journalDamaged(err error) {
	if c.badJournal {
		return
	}
	c.badJournal = true
	c.report.add(Finding{Kind: Journal, Path: volume.Path(volume.JournalDir), Detail: err.Error()})
}

// removeTree removes an object with all below it.
func removeTree(st store.FS, name string) error {
	attr, err := st.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if attr.Mode&unix.S_IFMT != unix.S_IFDIR {
		return st.Unlink(name)
	}
	entries, err := st.ReadDir(name)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := removeTree(st, path.Join(name, e.Name)); err != nil {
			return err
		}
	}
	return st.Rmdir(name)
}
