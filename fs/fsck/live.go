package fsck

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/journal"
	"github.com/akvfs/akvfs/fs/volume"
)

// A volume that is mounted changes while it is looked at: what a name's file or
// a temporary one looks like in one moment may be gone in the next. Each is
// looked at again while no name changes, and counts if it is still so.

// liveStructure is what a scrub does not look at: the journal, leftovers and
// the files of long names.
func (c *check) liveStructure(ctx context.Context, v *volume.Volume) error {
	for _, look := range []func(*volume.Volume) error{c.liveJournal, c.liveLeftovers, c.liveOrphans} {
		if err := errors.Join(ctx.Err(), look(v)); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// liveJournal checks the frames that recovery would need if the host fell now.
func (c *check) liveJournal(v *volume.Volume) error {
	err := v.CheckJournal()
	if _, corrupt := errors.AsType[*journal.CorruptError](err); corrupt {
		c.journalDamaged(err)
		return nil
	}
	return err
}

// liveLeftovers finds what operations left before the volume was opened.
func (c *check) liveLeftovers(v *volume.Volume) error {
	entries, err := c.st.ReadDir(volume.MetaDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !isTemporary(e.Name) || !c.isOlder(path.Join(volume.MetaDir, e.Name), v.Opened()) {
			continue
		}
		c.report.add(Finding{Kind: Leftover, Path: inMeta(e.Name), Detail: "an interrupted operation left it"})
	}
	return nil
}

func (c *check) isOlder(name string, than time.Time) bool {
	attr, err := c.st.Stat(name)
	return err == nil && attr.Mtime.Before(than)
}

// liveOrphans finds names without files, and files without names.
func (c *check) liveOrphans(v *volume.Volume) error {
	if !c.encrypted() {
		return nil
	}
	return v.WalkBacking(func(dir string, names map[string]bool) error {
		for name := range names {
			if isLongEntry(strings.TrimSuffix(name, volume.LongSuffix)) && !names[otherHalf(name)] {
				if err := c.liveOrphan(v, path.Join(dir, name)); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// otherHalf is what goes with a long entry, or with the file of its name.
func otherHalf(name string) string {
	if entry, holds := strings.CutSuffix(name, volume.LongSuffix); holds {
		return entry
	}
	return name + volume.LongSuffix
}

// liveOrphan looks at one half of a long name again.
func (c *check) liveOrphan(v *volume.Volume, half string) error {
	return v.NamesHeld(func() error {
		if _, err := c.st.Stat(half); err != nil {
			return onlyGone(err)
		}
		_, err := c.st.Stat(otherHalf(half))
		if !errors.Is(err, fs.ErrNotExist) {
			return onlyGone(err)
		}
		f := Finding{Kind: LongName, Path: volume.Path(half), Detail: "the file with its long name is missing: it is not seen in the mount"}
		if strings.HasSuffix(half, volume.LongSuffix) {
			f.Kind, f.Detail = Leftover, "it holds the long name of nothing that is there"
		}
		c.report.add(f)
		return nil
	})
}

// onlyGone drops the error of what is not there any more.
func onlyGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	return err
}
