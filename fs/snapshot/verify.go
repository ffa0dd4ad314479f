package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
)

// readersEach is how many read for each core: while some wait for the disk,
// the others have something to compute.
const readersEach = 4

// readers is how many read at a time: with a piece each in memory, not without
// end.
func readers() int { return min(readersEach*runtime.NumCPU(), 64) }

// Report is what a verification has found.
type Report struct {
	Objects int   `json:"objects"`
	Bytes   int64 `json:"bytes"` // that were read
	// Proven says that keys were there: the manifest is authentic, and every
	// block was decrypted.
	Proven bool `json:"proven"`
	// Damages name what is not as it was made, in order of their paths.
	Damages []string `json:"damages"`
}

// verifier collects what several goroutines find.
type verifier struct {
	st     store.FS
	report func(Progress)

	mu     sync.Mutex // guards the rest
	result Report
	noted  Progress
}

// Verify holds the snapshot in st against its manifest: every object with its
// attributes, every header and tag page; and what is there but ought not to
// be. progress may be nil. The error is ctx's, or says that it could not be
// verified; damage is in the report.
func Verify(ctx context.Context, st store.FS, progress func(Progress)) (*Report, error) {
	m, err := ReadManifest(st)
	if err != nil {
		return nil, err
	}
	v := &verifier{st: st, report: progress, noted: Progress{Phase: "structure"}}
	expected := map[string]bool{}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readers())
	err = m.EachObject(st, func(o Object, name string) error {
		expected[name] = true
		g.Go(func() error { return errors.Join(ctx.Err(), v.object(&o, name)) })
		return ctx.Err()
	})
	if also := g.Wait(); also != nil {
		return nil, also
	}
	if err := v.found(err); err != nil {
		return nil, err
	}
	if m.Objects != len(expected) {
		v.damage(path.Join(volume.MetaDir, manifestName), fmt.Sprintf("it tells of %d objects, not of %d", m.Objects, len(expected)))
	}
	if err := v.found(v.extra(".", expected)); err != nil {
		return nil, err
	}
	v.metadata(m)
	slices.Sort(v.result.Damages)
	return &v.result, nil
}

// Scrubber is the opened snapshot: a volume that proves itself.
type Scrubber interface {
	Scrub(context.Context, volume.ScrubOptions) (volume.ScrubProgress, error)
}

// VerifyBlocks proves the manifest with the volume's keys, and everything in
// the snapshot with them, on several cores. What it finds is added to the
// report. Files that proofs has are left out, and those that are sound added to
// it; it may be nil.
func VerifyBlocks(ctx context.Context, st store.FS, keys Keys, opened Scrubber, r *Report, proofs *Proofs, progress func(Progress)) error {
	v := &verifier{st: st, report: progress, noted: Progress{Phase: "blocks"}, result: *r}
	m, err := ReadManifest(st)
	if err == nil {
		v.noted.Total = m.Bytes
		err = m.Prove(keys)
	}
	if err := v.found(err); err != nil {
		return err
	}
	before := r.Bytes
	done, err := opened.Scrub(ctx, volume.ScrubOptions{
		Jobs:  readers(),
		Skip:  func(name volume.Path) bool { return proofs.Has(string(name)) },
		Sound: func(name volume.Path) error { return proofs.add(string(name)) },
		Found: func(d volume.Damage) { v.damage(string(d.Path), describeDamage(d)) },
		Progress: func(p volume.ScrubProgress) {
			v.noted.Files, v.noted.Bytes = int(p.Objects), int64(p.Bytes)
			if v.report != nil {
				v.report(v.noted)
			}
		},
	})
	if err != nil {
		return err
	}
	v.result.Bytes = before + int64(done.Bytes)
	v.result.Proven = true
	slices.Sort(v.result.Damages)
	*r = v.result
	return nil
}

func describeDamage(d volume.Damage) string {
	switch {
	case d.What == "block":
		return fmt.Sprintf("block %d: %d bytes at %d do not verify", d.Offset/format.BlockSize, d.Length, d.Offset)
	case d.Length == 0:
		return "its " + d.What + " does not verify"
	}
	return fmt.Sprintf("%s: %d bytes at %d do not verify", d.What, d.Length, d.Offset)
}

func (v *verifier) damage(name, what string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.result.Damages = append(v.result.Damages, (&DamageError{name, what}).Error())
}

// found takes damage into the report, and gives back every other error.
func (v *verifier) found(err error) error {
	if d, ok := errors.AsType[*DamageError](err); ok {
		v.damage(d.Path, d.What)
		return nil
	}
	return err
}

func (v *verifier) advance(n int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.result.Bytes += n
	v.noted.Bytes += n
	if v.report != nil {
		v.report(v.noted)
	}
}

// object holds one object against its line.
func (v *verifier) object(o *Object, name string) error {
	v.mu.Lock()
	v.result.Objects++
	v.noted.Files++
	v.mu.Unlock()
	l := listed{name: name}
	var err error
	if l.attr, err = v.st.Stat(name); errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		v.damage(name, "it is missing")
		return nil
	}
	if err == nil {
		err = l.ask(v.st)
	}
	if err != nil {
		return err
	}
	for _, what := range differences(o, &l) {
		v.damage(name, what)
	}
	if o.Same != "" {
		return v.sameObject(o, &l)
	}
	if l.kind() != unix.S_IFREG || o.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	tags, err := tagsDigest(v.st, name)
	if err == nil && tags != o.Tags {
		v.damage(name, "its header or a tag page has been changed")
	}
	v.advance((2 + l.attr.Size/(format.GroupBlocks+1)/format.PageSize) * format.PageSize)
	return err
}

// sameObject checks that a further name is one of the same object.
func (v *verifier) sameObject(o *Object, l *listed) error {
	other, err := decodePath(o.Same)
	if err != nil {
		return v.found(&DamageError{l.name, err.Error()})
	}
	attr, err := v.st.Stat(other)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // told of already
	}
	if err == nil && attr.ID() != l.attr.ID() {
		v.damage(l.name, "it is not another name of "+other+" any more")
	}
	return err
}

// differences tells what of an object's attributes is not as its line says.
func differences(o *Object, l *listed) (all []string) {
	is := describe(l)
	check := func(same bool, format string, args ...any) {
		if !same {
			all = append(all, fmt.Sprintf(format, args...))
		}
	}
	check(is.Mode == o.Mode, "its mode is %#o, and was %#o", is.Mode, o.Mode)
	check(is.UID == o.UID && is.GID == o.GID, "its owner is %d:%d, and was %d:%d", is.UID, is.GID, o.UID, o.GID)
	check(is.Size == o.Size, "it has %d bytes, and had %d", is.Size, o.Size)
	check(is.Rdev == o.Rdev, "it is another device")
	check(is.Target == o.Target, "the link has another target")
	check(is.Mtime == o.Mtime, "its time of modification is another")
	check(maps.EqualFunc(is.Xattrs, o.Xattrs, slices.Equal), "its extended attributes have been changed")
	return all
}

// extra finds what the manifest does not tell of.
func (v *verifier) extra(dir string, expected map[string]bool) error {
	entries, err := v.st.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name)
		if name == volume.MetaDir {
			continue
		}
		if !expected[name] {
			v.damage(name, "it was not there when the snapshot was made")
		} else if e.Type&unix.S_IFMT == unix.S_IFDIR {
			if err := v.extra(name, expected); err != nil {
				return err
			}
		}
	}
	return nil
}

// metadata looks at the volume's own files as far as that goes without keys.
func (v *verifier) metadata(m *Manifest) {
	info, err := volume.ReadInfo(v.st)
	if err != nil {
		v.damage(path.Join(volume.MetaDir, volume.InfoFile), err.Error())
	} else if info.ID != m.Volume {
		v.damage(path.Join(volume.MetaDir, volume.InfoFile), "it is another volume's")
	}
	keyring, err := keymgr.LoadKeyring(volume.Metadata(v.st))
	if err != nil {
		v.damage(path.Join(volume.MetaDir, keymgr.KeyringFile), err.Error())
		return
	}
	for _, mk := range m.MasterKeys {
		if !slices.ContainsFunc(keyring.MasterKeys(), func(k keymgr.MasterKey) bool { return k.ID.String() == mk.ID }) {
			v.damage(path.Join(volume.MetaDir, keymgr.KeyringFile), "it lacks master key "+mk.ID)
		}
	}
}

// Summary is the report in a line.
func (r *Report) Summary() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d objects, ", r.Objects)
	if r.Proven {
		b.WriteString("every block proven: ")
	} else {
		b.WriteString("structure and tags, no blocks (that needs the keys): ")
	}
	if len(r.Damages) == 0 {
		b.WriteString("no damage")
	} else {
		fmt.Fprintf(&b, "%d that are damaged", len(r.Damages))
	}
	return b.String()
}
