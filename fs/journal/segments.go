package journal

import (
	"errors"
	"fmt"
	"os"
	"path"
	"sort"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
)

const (
	// DefaultSize is the size of a new volume's journal in bytes.
	DefaultSize = 128 << 20
	// MinSize is the smallest journal there can be, in bytes.
	MinSize = 1 << 20

	segmentCount = 4
)

// Create makes the journal's directory and its segments, written full of
// zeros and durable, so that no later write waits for an allocation or fails
// for lack of space. size is rounded down to whole pages in each segment.
func Create(st store.FS, dir string, size int64) error {
	if size < MinSize {
		return fmt.Errorf("journal of %d bytes: the smallest is %d", size, int64(MinSize))
	}
	if err := st.Mkdir(dir, 0o700); err != nil && !errors.Is(err, syscall.EEXIST) {
		return err
	}
	each := Rounded(size) / segmentCount
	for i := range segmentCount {
		if err := createSegment(st, segmentName(dir, i), each); err != nil {
			return err
		}
	}
	return st.SyncDir(dir)
}

// Rounded is the size in bytes of a journal that Create is asked to give a size.
func Rounded(size int64) int64 { return size / segmentCount / page * page * segmentCount }

// SizeLeft is the size that a journal had of which not all may be left, in
// bytes, by its largest segment; 0: it cannot be told.
func SizeLeft(st store.FS, dir string) (size int64, err error) {
	for i := range segmentCount {
		attr, err := st.Stat(segmentName(dir, i))
		if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ENOTDIR) {
			continue
		}
		if err != nil {
			return 0, err
		}
		size = max(size, Rounded(attr.Size*segmentCount))
	}
	if size < MinSize || size > mostSegment*segmentCount {
		return 0, nil
	}
	return size, nil
}

func segmentName(dir string, i int) string { return path.Join(dir, fmt.Sprintf("%03d", i)) }

func createSegment(st store.FS, name string, size int64) error {
	f, err := st.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(0); err != nil {
		return err
	}
	zeros := make([]byte, 1<<20)
	for off := int64(0); off < size; off += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros[:min(int64(len(zeros)), size-off)], off); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

// segments are the journal's files, all of one size.
type segments struct {
	files []store.File
	size  int // bytes of each
	// direct says whether writes go past the page cache.
	direct bool
}

func openSegments(st store.FS, dir string, readOnly bool) (*segments, error) {
	entries, err := st.ReadDir(dir)
	if errors.Is(err, syscall.ENOENT) {
		return nil, &CorruptError{"its directory is missing"}
	}
	if err != nil {
		return nil, err
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Name < entries[j].Name })
	s := &segments{direct: true}
	for i, e := range entries {
		if e.Name != path.Base(segmentName(dir, i)) {
			s.close()
			return nil, &CorruptError{"segment " + path.Base(segmentName(dir, i)) + " is missing"}
		}
		if err := s.open(st, path.Join(dir, e.Name), readOnly); err != nil {
			s.close()
			return nil, err
		}
	}
	if len(s.files) != segmentCount {
		s.close()
		return nil, &CorruptError{fmt.Sprintf("%d segments, not %d", len(entries), segmentCount)}
	}
	return s, nil
}

func (s *segments) open(st store.FS, name string, readOnly bool) error {
	flags := os.O_RDWR | unix.O_DSYNC | unix.O_DIRECT
	if readOnly {
		flags = os.O_RDONLY
	}
	f, err := st.OpenFile(name, flags, 0)
	if errors.Is(err, syscall.EINVAL) && !readOnly {
		s.direct = false // tmpfs, some overlays
		f, err = st.OpenFile(name, flags&^unix.O_DIRECT, 0)
	}
	if err != nil {
		return err
	}
	s.files = append(s.files, f)
	attr, err := f.Stat()
	if err != nil {
		return err
	}
	if s.size == 0 {
		s.size = int(attr.Size)
	}
	if attr.Size != int64(s.size) || s.size < MinSize/segmentCount || s.size%page != 0 {
		return &CorruptError{fmt.Sprintf("segment %s has %d bytes", path.Base(name), attr.Size)}
	}
	return nil
}

func (s *segments) close() {
	for _, f := range s.files {
		f.Close()
	}
}

// position is a place in the ring.
type position struct{ segment, offset int }

// place is where a frame of n bytes goes that is due at p: there, or at the
// start of the next segment if it would not fit.
func (s *segments) place(p position, n int) position {
	if p.offset+n > s.size {
		return position{(p.segment + 1) % len(s.files), 0}
	}
	return p
}
