package fsck

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/blockfile"
	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/journal"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
)

// repair goes through what was found, in an order that each step can rely on:
// the keyring; headers, without which a file's journal records find no file;
// the journal, which the tag pages at home may be waiting for, or what is left
// of a damaged one, if its loss is accepted; what the
// journal's past still has of damaged files; leftovers. Then everything that
// was found is looked at again.
func (c *check) repair(ctx context.Context) error {
	past, err := c.past()
	if err != nil {
		return err
	}
	for _, step := range []func(context.Context, *journal.Past) error{
		c.restoreKeyring, c.mendHeaders, c.replay, c.renewJournal, c.mendFiles, c.removeLeftovers,
	} {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := step(ctx, past); err != nil {
			return err
		}
	}
	return c.lookAgain(ctx)
}

// past reads what the journal holds, or what is left of it.
func (c *check) past() (*journal.Past, error) {
	key, err := c.keys.VolumeKey("journal")
	if err != nil {
		return nil, err
	}
	cipher, err := crypto.NewBlockCipher(key)
	if err != nil {
		return nil, err
	}
	defer cipher.Destroy()
	return journal.Read(c.st, volume.JournalDir, journal.Config{Volume: c.info.ID, Cipher: cipher})
}

// each calls do for the findings of some kinds.
func (c *check) each(do func(f *Finding) error, kinds ...Kind) error {
	for i := range c.report.Findings {
		if f := &c.report.Findings[i]; slices.Contains(kinds, f.Kind) {
			if err := do(f); err != nil {
				return err
			}
		}
	}
	return nil
}

// restoreKeyring puts the kept copy of the keyring in the place of one that is
// damaged. That the copy is authentic is proven: the keys in use are from it.
func (c *check) restoreKeyring(context.Context, *journal.Past) error {
	return c.each(func(f *Finding) error {
		f.settled = true
		if f.State = Left; !c.fromKept {
			return nil
		}
		err := volume.Metadata(c.st).Restore(keymgr.KeyringFile)
		if err == nil {
			f.State = Repaired
		}
		return err
	}, Keyring)
}

// mendHeaders repairs headers, but not that of a file whose only content is in
// the journal: without its header that would be given up.
func (c *check) mendHeaders(_ context.Context, past *journal.Past) error {
	pending := map[string]bool{}
	for _, r := range past.Pending {
		pending[r.Path] = true
	}
	return c.each(func(f *Finding) error {
		name := string(f.Path)
		if f.Kind == Leftover && (f.Name == "" || pending[name]) {
			return nil // none of the tree's, or not empty
		}
		back, err := c.st.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			return ignoreGone(err)
		}
		defer back.Close()
		_, err = blockfile.MendHeader(c.keys, back, name)
		return onlyStore(err)
	}, Header, HeaderSlot, Leftover)
}

func inOwnDir(name string) bool { return strings.HasPrefix(name, volume.MetaDir+"/") }

// ignoreGone: a finding that is not there any more needs no repair.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// onlyStore drops integrity errors, which are found again afterwards.
func onlyStore(err error) error {
	_, damage := errors.AsType[*blockfile.IntegrityError](err)
	_, keys := errors.AsType[*keymgr.IntegrityError](err)
	if damage || keys {
		return nil
	}
	return err
}

// replay brings home what the journal holds, as a mount does.
func (c *check) replay(_ context.Context, past *journal.Past) error {
	if c.badJournal || len(past.Pending) == 0 {
		return nil
	}
	if fits, err := c.fits(past.Pending); err != nil || !fits {
		return err
	}
	v, err := volume.Open(c.st, c.keys, volume.Options{Logger: c.opts.Logger})
	if err != nil {
		return err
	}
	c.report.Replayed = v.Stats().Recovery.Records
	c.report.Pending = 0
	return v.Close()
}

// mendFiles repairs files from what the journal's past has of them. With a
// journal that is damaged itself nothing at home can be told from what was to
// be replaced by it: all stays as it is.
func (c *check) mendFiles(ctx context.Context, past *journal.Past) error {
	if c.badJournal {
		return nil
	}
	env := &blockfile.Env{Volume: c.info.ID, Keys: c.keys}
	done := map[volume.Path]bool{}
	return c.each(func(f *Finding) error {
		if done[f.Path] {
			return nil
		}
		done[f.Path] = true
		if err := ctx.Err(); err != nil {
			return err
		}
		return c.mendFile(env, string(f.Path), past)
	}, Header, Size, TagPage, Block, Tail)
}

func (c *check) mendFile(env *blockfile.Env, name string, past *journal.Past) error {
	back, err := c.st.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return ignoreGone(err)
	}
	defer back.Close()
	file, err := blockfile.Inspect(env, back, name)
	if err != nil {
		return onlyStore(err)
	}
	defer file.Leave()
	id, ok := file.ID()
	if !ok {
		return nil
	}
	groups := groupsOf(past.Records, id)
	_, err = file.Mend(func(group int64) []journal.Group { return groups[group] })
	return err
}

// groupsOf sorts a file's part of the records by groups, the oldest first.
func groupsOf(records []journal.Record, id format.FileID) map[int64][]journal.Group {
	groups := map[int64][]journal.Group{}
	for i := range records {
		if records[i].File != id {
			continue
		}
		for _, g := range records[i].Groups {
			groups[g.Number] = append(groups[g.Number], g)
		}
	}
	return groups
}

// removeLeftovers removes what interrupted operations left: files for long
// names of nothing, and temporary files of the volume's own.
func (c *check) removeLeftovers(context.Context, *journal.Past) error {
	return c.each(func(f *Finding) error {
		name := string(f.Path)
		orphan, long := strings.CutSuffix(name, volume.LongSuffix)
		switch {
		case long && c.encrypted() && isLongEntry(path.Base(orphan)):
			if _, err := c.st.Stat(orphan); !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		case !inOwnDir(name):
			return nil // a header that was mended already
		}
		if err := removeTree(c.st, name); err != nil {
			return err
		}
		return c.st.SyncDir(path.Dir(name))
	}, Leftover)
}

// lookAgain sees which findings are still there, and takes in what has come up
// behind them.
func (c *check) lookAgain(ctx context.Context) error {
	before := c.report.Findings
	again := newReport(nil)
	var files []volume.Path
	for i := range before {
		if before[i].isContent() && !slices.Contains(files, before[i].Path) {
			files = append(files, before[i].Path)
		}
	}
	if len(files) > 0 {
		err := c.withVolume(func(v *volume.Volume) error {
			opts := c.scrubOptions(again.damage)
			opts.Only, opts.Progress = files, nil
			_, err := v.Scrub(ctx, opts)
			return err
		})
		if err != nil {
			return err
		}
	}
	for i := range before {
		c.judge(&before[i], again)
	}
	known := map[place]bool{}
	for i := range before {
		known[place{before[i].Kind, before[i].Path, before[i].Offset}] = true
	}
	for _, f := range again.Findings {
		if !known[place{f.Kind, f.Path, f.Offset}] {
			f.State = Left
			c.report.add(f)
		}
	}
	return nil
}

// isContent: a scrub of the file alone finds it again.
func (f *Finding) isContent() bool {
	switch f.Kind {
	case Header, HeaderSlot, Size, TagPage, Block, Tail:
		return true
	case Leftover:
		return f.Name != ""
	}
	return false
}

// judge gives a finding its state after the repair.
func (c *check) judge(f *Finding, again *report) {
	switch {
	case f.settled:
		return
	case f.isContent():
		f.State = Repaired
		if again.touches(f) {
			f.State = Left
		}
	case f.Kind == Leftover:
		f.State = Left
		if _, err := c.st.Stat(string(f.Path)); errors.Is(err, fs.ErrNotExist) {
			f.State = Repaired
		}
	default:
		f.State = Left
	}
}

// touches reports whether anything was found where a finding was.
func (r *report) touches(f *Finding) bool {
	return slices.ContainsFunc(r.Findings, func(g Finding) bool {
		if g.Path != f.Path {
			return false
		}
		if f.Length == 0 || g.Length == 0 {
			return g.Kind == f.Kind
		}
		return g.Offset < f.Offset+f.Length && f.Offset < g.Offset+g.Length
	})
}
