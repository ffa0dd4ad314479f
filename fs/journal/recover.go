package journal

import (
	"errors"
	"fmt"
	"io"

	"github.com/akvfs/akvfs/fs/store"
)

// CorruptError says that the journal cannot be trusted: a frame that must be
// there is missing or damaged, which no power cut does.
type CorruptError struct{ What string }

func (e *CorruptError) Error() string { return "journal is damaged: " + e.What }

// found is a whole, authentic frame.
type found struct {
	header  *header
	at      position
	records []Record
}

// Open reads the journal and returns the records that may not be at home
// yet, oldest first. They must be brought home and made durable there before
// Start; until then nothing can be submitted. With readOnly the journal is
// only read, and Start must not be called. Errors are *CorruptError, or the
// store's.
func Open(st store.FS, dir string, cfg Config, readOnly bool) (*Journal, []Record, error) {
	seg, err := openSegments(st, dir, readOnly)
	if err != nil {
		return nil, nil, err
	}
	j, err := newJournal(cfg, seg)
	if err != nil {
		seg.close()
		return nil, nil, err
	}
	chain, err := j.scan()
	if err != nil {
		seg.close()
		return nil, nil, err
	}
	last := chain[len(chain)-1]
	j.number = last.header.number
	j.head = position{last.at.segment, last.at.offset + last.header.length()}
	var records []Record
	for _, f := range chain {
		j.live = append(j.live, frameInfo{f.header.number, f.header.length(), 0})
		j.used += f.header.length()
		records = append(records, f.records...)
	}
	j.tail = chain[0].header.number
	return j, records, nil
}

// Start begins this opening's frames: all before them are no longer needed.
func (j *Journal) Start() error { return j.Release(j.Position()) }

// Initialize writes the first frame into a journal fresh from Create, with the
// number after that of the frame before: 0, or the last one of the journal
// whose place this one takes. Without a frame a journal is damaged, so that
// one cannot be wiped unseen.
func Initialize(st store.FS, dir string, cfg Config, before uint64) error {
	seg, err := openSegments(st, dir, false)
	if err != nil {
		return err
	}
	defer seg.close()
	j, err := newJournal(cfg, seg)
	if err != nil {
		return err
	}
	j.number, j.tail = before, before+1
	j.mu.Lock()
	defer j.mu.Unlock()
	j.writeFrame()
	return j.err
}

// scan finds the frames that are needed: those from the newest frame's tail
// to the newest.
func (j *Journal) scan() ([]found, error) {
	frames := map[uint64]found{}
	var newest *header
	var twice uint64
	for i := range j.seg.files {
		err := j.scanSegment(i, func(f found) {
			if _, ok := frames[f.header.number]; ok {
				twice = f.header.number
			}
			frames[f.header.number] = f
			if newest == nil || f.header.number > newest.number {
				newest = f.header
			}
		})
		if err != nil {
			return nil, err
		}
	}
	if newest == nil {
		return nil, &CorruptError{"it holds no frame"}
	}
	if twice >= newest.tail {
		return nil, &CorruptError{fmt.Sprintf("frame %d is there twice", twice)}
	}
	var chain []found
	for n := newest.tail; n <= newest.number; n++ {
		f, ok := frames[n]
		if !ok || f.header.opening != newest.opening {
			return nil, &CorruptError{fmt.Sprintf("frame %d of %d to %d is missing", n, newest.tail, newest.number)}
		}
		chain = append(chain, f)
	}
	return chain, nil
}

// scanSegment calls visit for every whole frame of a segment, in any state of
// age. What is no frame is passed over page by page.
func (j *Journal) scanSegment(i int, visit func(found)) error {
	b := store.AlignedBuffer(j.seg.size)
	if _, err := j.seg.files[i].ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	for off := 0; off < len(b); {
		f, err := j.frameAt(b[off:])
		if errors.Is(err, ErrNewerFormat) {
			return err
		}
		if err != nil {
			off += page
			continue
		}
		f.at = position{i, off}
		visit(f)
		off += f.header.length()
	}
	return nil
}

func (j *Journal) frameAt(b []byte) (found, error) {
	h, err := parseHeader(b, len(b))
	if err != nil {
		return found{}, err
	}
	if j.cfg.Cipher == nil { // whoever has no key sees frames, and nothing in them
		return found{header: h}, checkSum(b, h)
	}
	records, err := openFrame(b, h, &j.cfg)
	return found{header: h, records: records}, err
}
