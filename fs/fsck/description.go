package fsck

import (
	"context"
	"errors"
	"io"
	"path"

	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
)

// described is a store with a description in the place of a damaged one, so
// that a check which may write nothing can prove all the rest.
type described struct {
	Backing
	document []byte
}

// OpenFile is store.FS's.
func (d described) OpenFile(name string, flag int, perm uint32) (store.File, error) {
	if name == path.Join(volume.MetaDir, volume.InfoFile) {
		return document{content: d.document}, nil
	}
	return d.Backing.OpenFile(name, flag, perm)
}

// document is a file in memory, of which only reading is asked.
type document struct {
	store.File
	content []byte
}

// ReadAt is store.File's.
func (d document) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(d.content)) {
		return 0, io.EOF
	}
	n := copy(p, d.content[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Stat is store.File's.
func (d document) Stat() (store.Attr, error) { return store.Attr{Size: int64(len(d.content))}, nil }

// Close is store.File's.
func (d document) Close() error { return nil }

// suspect reports whether the description may be damaged although it reads: it
// is of another volume than the keyring.
func (c *check) suspect() bool {
	for _, meta := range c.keyrings() {
		if keyring, err := keymgr.LoadKeyring(meta); err == nil && keyring.Volume() != c.info.ID {
			return true
		}
	}
	return false
}

// keyrings are the keyring and its kept copy.
func (c *check) keyrings() []keymgr.Storage {
	meta := volume.Metadata(c.st)
	return []keymgr.Storage{meta, keptKeyring{meta}}
}

// findDescription finds out what a damaged description says, with the keys of
// the keyring or its copy, and puts it in its place: on the disk if a repair is
// asked for, and else in this check's view. reads says that there is one, which
// may as well be right, the keyring being another volume's. ok is false where
// there is none in the end: it is noted why. An error says why the keys cannot
// be had.
func (c *check) findDescription(ctx context.Context, reads bool) (ok bool, err error) {
	for _, meta := range c.keyrings() {
		found, err := c.describedBy(ctx, meta)
		if found || ctx.Err() != nil {
			return found, err
		}
		lost, isLost := errors.AsType[*volume.InfoLostError](err)
		_, damaged := errors.AsType[*keymgr.IntegrityError](err)
		switch {
		case reads || damaged || errors.Is(err, keymgr.ErrNoKeyring):
		case isLost:
			c.report.note("%v", lost)
			return false, nil
		default:
			return false, err
		}
	}
	return reads, nil
}

func (c *check) describedBy(ctx context.Context, meta keymgr.Storage) (bool, error) {
	keyring, err := keymgr.LoadKeyring(meta)
	if err != nil {
		return false, err
	}
	keys, err := c.opts.Keys(ctx, meta, keyring.Volume())
	if err != nil {
		return false, err
	}
	defer keys.Destroy()
	info, how, err := volume.FindInfo(c.st, keys, volume.InfoSources{
		ID: keyring.Volume(), Created: keyring.Created(), Copies: c.opts.Copies, Cluster: c.opts.Cluster,
	})
	if err != nil {
		return false, err
	}
	return true, c.describe(info, how)
}

// describe puts a description in its place.
func (c *check) describe(info volume.Info, how string) error {
	c.info = info
	c.report.Volume = info.ID.String()
	state := Found
	if c.opts.Repair {
		if err := volume.WriteInfo(c.st, info); err != nil {
			return err
		}
		state = Repaired
	} else {
		document, err := info.Document()
		if err != nil {
			return err
		}
		c.st.Backing = described{c.st.Backing, document}
	}
	c.descriptionDamaged("it does not verify, or cannot be read; " + how)
	c.eachDescription(func(f *Finding) { f.State, f.settled = state, true })
	return nil
}

func (c *check) descriptionDamaged(how string) {
	c.report.add(Finding{Kind: Description, Path: inMeta(volume.InfoFile), Detail: "the volume's description is damaged: " + how})
}

// eachDescription edits the finding about the description.
func (c *check) eachDescription(edit func(f *Finding)) {
	for i := range c.report.Findings {
		if f := &c.report.Findings[i]; f.Kind == Description && f.Path == inMeta(volume.InfoFile) {
			edit(f)
		}
	}
}

// keptDescription holds the copy of the description, which is as it should be,
// against it, and makes it anew if a repair is asked for.
func (c *check) keptDescription() error {
	err := volume.CheckKeptInfo(c.st, c.info)
	if _, damaged := errors.AsType[*volume.IntegrityError](err); !damaged {
		return err
	}
	f := Finding{Kind: DescriptionCopy, Path: inMeta(volume.InfoFile + ".prev"), Detail: err.Error()}
	if c.opts.Repair {
		if err := volume.WriteInfo(c.st, c.info); err != nil {
			return err
		}
		f.State = Repaired
	}
	f.settled = true
	c.report.add(f)
	return nil
}
