package journal

import (
	"errors"
	"slices"

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
}

// Read gives everything that a journal holds. It takes as much memory as the
// journal is large. Errors are the store's, or a *CorruptError if there is
// nothing to be read.
func Read(st store.FS, dir string, cfg Config) (*Past, error) {
	seg, err := openSegments(st, dir, true)
	if err != nil {
		return nil, err
	}
	defer seg.close()
	j := &Journal{cfg: cfg, seg: seg}
	var frames []found
	for i := range seg.files {
		if err := j.scanSegment(i, func(f found) { frames = append(frames, f) }); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(frames, func(a, b found) int {
		switch {
		case a.header.number < b.header.number:
			return -1
		case a.header.number > b.header.number:
			return 1
		}
		return 0
	})
	p := &Past{}
	for _, f := range frames {
		p.Records = append(p.Records, f.records...)
	}
	chain, err := j.scan()
	var corrupt *CorruptError
	if errors.As(err, &corrupt) {
		p.Damage = err
		return p, nil
	}
	for _, f := range chain {
		p.Pending = append(p.Pending, f.records...)
	}
	return p, err
}
