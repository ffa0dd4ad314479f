package journal

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/store"
)

// Shape is what a journal shows without its key.
type Shape struct {
	Newest uint64 // number of the newest frame
	Needed int    // frames that recovery needs
	Clean  bool   // none of them holds anything: the volume was closed
}

// Look reads a journal without its key: its segments, and the frames' headers
// and checksums. That the frames are authentic is not proven. Errors are Open's.
func Look(st store.FS, dir string) (Shape, error) {
	seg, err := openSegments(st, dir, true)
	if err != nil {
		return Shape{}, err
	}
	defer seg.close()
	chain, err := (&Journal{seg: seg}).scan()
	if err != nil {
		return Shape{}, err
	}
	last := chain[len(chain)-1].header
	empty := last.blocks == 0 && last.sealed == crypto.TagSize
	return Shape{Newest: last.number, Needed: len(chain), Clean: len(chain) == 1 && empty}, nil
}

// Past is what a journal still holds, needed or not.
type Past struct {
	Records []Record // of every whole, authentic frame, oldest first
	Pending []Record // those that recovery needs; the end of Records
	Damage  error    // why recovery cannot be done, a *CorruptError; Pending is empty then
	Newest  uint64   // number of the newest frame; 0: there is none
	// Of a journal that is damaged: Left are the records of those needed frames
	// that are there, of which Before come before the first that is missing, and
	// Missing the numbers of the others, from and to.
	Left    []Record
	Before  int
	Missing [][2]uint64
}

// Read gives everything that a journal holds, damaged or not; a journal of
// which nothing is left holds nothing. It takes as much memory as the journal
// is large. Errors are ErrNewerFormat or the store's.
func Read(st store.FS, dir string, cfg Config) (*Past, error) {
	frames, err := whole(st, dir, cfg)
	if err != nil {
		return nil, err
	}
	p := &Past{}
	for _, f := range frames {
		p.Records = append(p.Records, f.records...)
	}
	if len(frames) > 0 {
		p.Newest = frames[len(frames)-1].header.number
	}
	chain, err := needed(st, dir, cfg)
	if _, corrupt := errors.AsType[*CorruptError](err); corrupt {
		p.Damage = err
		p.sift(frames)
		return p, nil
	}
	for _, f := range chain {
		p.Pending = append(p.Pending, f.records...)
	}
	return p, err
}

// needed is the chain of frames that recovery needs.
func needed(st store.FS, dir string, cfg Config) ([]found, error) {
	seg, err := openSegments(st, dir, true)
	if err != nil {
		return nil, err
	}
	defer seg.close()
	return (&Journal{cfg: cfg, seg: seg}).scan()
}

// whole are the frames in whatever segments there are, the oldest first.
func whole(st store.FS, dir string, cfg Config) (frames []found, err error) {
	err = eachWhole(st, dir, cfg, func(f found) { frames = append(frames, f) })
	slices.SortStableFunc(frames, func(a, b found) int { return cmp.Compare(a.header.number, b.header.number) })
	return frames, err
}

func eachWhole(st store.FS, dir string, cfg Config, visit func(found)) error {
	entries, err := st.ReadDir(dir)
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	for _, e := range entries {
		if err == nil && e.Type&unix.S_IFMT == unix.S_IFREG {
			err = wholeIn(st, path.Join(dir, e.Name), cfg, visit)
		}
	}
	return err
}

// mostSegment bounds what is read of a segment, whatever size it has, in bytes.
const mostSegment = 1 << 30

func wholeIn(st store.FS, name string, cfg Config, visit func(found)) error {
	f, err := st.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	attr, err := f.Stat()
	if err != nil {
		return err
	}
	seg := &segments{files: []store.File{f}, size: int(min(attr.Size, mostSegment) / page * page)}
	return (&Journal{cfg: cfg, seg: seg}).scanSegment(0, visit)
}

// sift fills in what is left of the frames that the newest one needs.
func (p *Past) sift(frames []found) {
	if len(frames) == 0 {
		return
	}
	newest := frames[len(frames)-1].header
	next := newest.tail
	for _, f := range frames {
		if f.header.number < next || f.header.opening != newest.opening {
			continue // not needed, or there twice
		}
		if f.header.number > next {
			p.Missing = append(p.Missing, [2]uint64{next, f.header.number - 1})
		}
		if len(p.Missing) == 0 {
			p.Before += len(f.records)
		}
		p.Left = append(p.Left, f.records...)
		next = f.header.number + 1
	}
}

// Check reads the frames of an open journal that recovery would need now, and
// proves them. What is written or freed meanwhile is passed over. Errors are a
// *CorruptError, the store's, or ErrClosed.
func (j *Journal) Check(st store.FS, dir string) error {
	first, last, cfg, err := j.span()
	if err != nil {
		return err
	}
	there := map[uint64]bool{}
	err = eachWhole(st, dir, cfg, func(f found) {
		there[f.header.number] = there[f.header.number] || f.header.opening == j.opening
	})
	if err != nil {
		return err
	}
	if now, _, _, err := j.span(); err != nil {
		return err
	} else if now > first {
		first = now
	}
	for n := first; n <= last; n++ {
		if !there[n] {
			return &CorruptError{fmt.Sprintf("frame %d of %d to %d is missing", n, first, last)}
		}
	}
	return nil
}

// span is which frames are live, and what they open with.
func (j *Journal) span() (first, last uint64, cfg Config, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return 0, 0, cfg, j.err
	}
	if len(j.live) == 0 {
		return 1, 0, j.cfg, nil
	}
	return j.live[0].number, j.live[len(j.live)-1].number, j.cfg, nil
}
