package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
)

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
	proofs *Proofs

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
	g.SetLimit(2 * runtime.NumCPU())
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

// VerifyBlocks proves the manifest with the volume's keys and reads every file
// of tree, which is the snapshot's plaintext, on several cores. What it finds
// is added to the report. Files that proofs has are left out, and those that
// are sound added to it; it may be nil.
func VerifyBlocks(ctx context.Context, st store.FS, keys Keys, tree fs.FS, r *Report, proofs *Proofs, progress func(Progress)) error {
	v := &verifier{st: st, report: progress, proofs: proofs, noted: Progress{Phase: "blocks"}, result: *r}
	m, err := ReadManifest(st)
	if err == nil {
		v.noted.Total = m.Bytes
		err = m.Prove(keys)
	}
	if err := v.found(err); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.NumCPU())
	err = fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return v.unreadable(name, err)
		}
		if d.Type().IsRegular() && !proofs.Has(name) {
			g.Go(func() error { return v.blocks(ctx, tree, name) })
		}
		return ctx.Err()
	})
	if err := errors.Join(err, g.Wait()); err != nil {
		return err
	}
	v.result.Proven = true
	slices.Sort(v.result.Damages)
	*r = v.result
	return nil
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

// unreadable is an object of the plaintext that cannot be read.
func (v *verifier) unreadable(name string, err error) error {
	if d, ok := errors.AsType[*volume.IntegrityError](err); ok {
		v.damage(d.Path, d.Error())
		return nil
	}
	if errors.Is(err, unix.EIO) {
		return err
	}
	v.damage(name, err.Error())
	return nil
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

// verifyBytes is how much of a file one goroutine reads.
const verifyBytes = 16 << 20

// blocks reads a file of the plaintext, a large one on several cores.
func (v *verifier) blocks(ctx context.Context, tree fs.FS, name string) error {
	f, err := tree.Open(name)
	if err != nil {
		return v.unreadable(name, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return v.unreadable(name, err)
	}
	at, ok := f.(io.ReaderAt)
	if !ok {
		return fmt.Errorf("%s cannot be read at any place", name)
	}
	v.mu.Lock()
	v.noted.Files++
	v.mu.Unlock()
	var bad atomic.Bool
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.NumCPU())
	for off := int64(0); off < info.Size(); off += verifyBytes {
		g.Go(func() error {
			return v.part(ctx, io.NewSectionReader(at, off, verifyBytes), func(err error) error {
				bad.Store(true)
				return v.unreadable(name, err)
			})
		})
	}
	if err := g.Wait(); err != nil || bad.Load() {
		return err
	}
	return v.proofs.add(name)
}

// part reads a part of a file to its end, past what cannot be read.
func (v *verifier) part(ctx context.Context, part *io.SectionReader, failed func(error) error) error {
	buf := verifyBuffers.Get().(*[1 << 20]byte)
	defer verifyBuffers.Put(buf)
	for off := int64(0); off < verifyBytes; off += int64(len(buf)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := part.ReadAt(buf[:], off)
		v.advance(int64(n))
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			if err := failed(err); err != nil {
				return err
			}
		}
	}
	return nil
}

var verifyBuffers = sync.Pool{New: func() any { return new([1 << 20]byte) }}

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
