package fsck

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/volume"
)

// Salvage copies out what can be read of damaged files, into a directory that
// it makes or that is empty. A file keeps its path of the tree, or is under
// UnnamedDir by its path in the backing directory where that cannot be told.
// Beside it is a map of what is missing, which are holes in the copy.
type Salvage struct {
	Dir string
	// Files is what was copied, after Run.
	Files []Salvaged
}

// Salvaged is one file that was copied out.
type Salvaged struct {
	Path volume.Path `json:"path"` // in the backing directory
	File volume.Path `json:"file"` // in the directory salvaged to
	Size int64       `json:"size"`
	// Missing are the ranges that could not be read; the map beside the file
	// has the same.
	Missing []Range `json:"missing"`
}

// Range is a run of bytes.
type Range struct {
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
}

const (
	// MissingSuffix ends the name of a salvaged file's map.
	MissingSuffix = ".akvfs-missing"
	// UnnamedDir holds files whose names cannot be told.
	UnnamedDir = "akvfs-unnamed"
)

// NotEmptyError says that a directory to salvage to holds something.
type NotEmptyError struct{ Dir string }

func (e *NotEmptyError) Error() string { return fmt.Sprintf("%s is not empty", e.Dir) }

// Prepare makes the directory, or refuses one that holds something.
func (s *Salvage) Prepare() error {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(s.Dir)
	if err == nil && len(entries) > 0 {
		err = &NotEmptyError{s.Dir}
	}
	return err
}

// run copies every damaged file among the findings.
func (s *Salvage) run(ctx context.Context, v *volume.Volume, findings []Finding) error {
	root, err := os.OpenRoot(s.Dir)
	if err != nil {
		return err
	}
	defer root.Close()
	done := map[volume.Path]bool{}
	for i := range findings {
		f := &findings[i]
		if f.State == Repaired || done[f.Path] || !f.costs() {
			continue
		}
		done[f.Path] = true
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.copy(v, root, f); err != nil {
			return fmt.Errorf("salvaging %s: %w", f.Path, err)
		}
	}
	return nil
}

// costs reports whether a finding keeps a file, or part of it, from being read.
func (f *Finding) costs() bool {
	return slices.Contains([]Kind{Header, Size, TagPage, Block, Name, LongName}, f.Kind)
}

// target is where a file goes.
func (f *Finding) target() string {
	if f.Name != "" {
		return string(f.Name)
	}
	return path.Join(UnnamedDir, shorten(strings.ReplaceAll(string(f.Path), "/", "%2F"), ""))
}

// shorten makes a name with a suffix fit into what a name may have.
func shorten(name, suffix string) string {
	const most, kept = 255, 200
	if len(name)+len(suffix) <= most {
		return name + suffix
	}
	hash := sha256.Sum256([]byte(name))
	return fmt.Sprintf("%s~%x%s", name[:kept], hash[:8], suffix)
}

func (s *Salvage) copy(v *volume.Volume, root *os.Root, f *Finding) error {
	attr, err := v.StatBacking(string(f.Path))
	if err != nil || attr.Mode&unix.S_IFMT != unix.S_IFREG {
		return ignoreGone(err)
	}
	name := f.target()
	if err := root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return err
	}
	out, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	done := Salvaged{Path: f.Path, File: volume.Path(name), Missing: []Range{}}
	done.Size, err = v.Salvage(string(f.Path), func(off int64, p []byte) error {
		_, err := out.WriteAt(p, off)
		return err
	}, done.lost)
	if err == nil {
		err = out.Truncate(done.Size)
	}
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return err
	}
	if err := root.Chtimes(name, attr.Mtime, attr.Mtime); err != nil {
		return err
	}
	s.Files = append(s.Files, done)
	return writeMap(root, name, &done)
}

// lost notes a range, joined to the one before if they touch.
func (d *Salvaged) lost(off, n int64) {
	if n == 0 {
		return
	}
	if last := len(d.Missing) - 1; last >= 0 && d.Missing[last].Offset+d.Missing[last].Length == off {
		d.Missing[last].Length += n
		return
	}
	d.Missing = append(d.Missing, Range{off, n})
}

func writeMap(root *os.Root, name string, d *Salvaged) error {
	data, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}
	f, err := root.OpenFile(path.Join(path.Dir(name), shorten(path.Base(name), MissingSuffix)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	return errors.Join(err, f.Sync(), f.Close())
}
