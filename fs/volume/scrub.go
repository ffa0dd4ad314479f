package volume

import (
	"context"
	"errors"
	"net/url"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
)

// Damage is something in the backing directory that is not what was written
// there, as a scrub tells it.
type Damage struct {
	Path Path // in the backing directory
	Name Path // in the tree; "" if that does not open either
	// What is one of "block", "tag page", "header", "header slot",
	// "unfinished header", "size", "tail", "name", "link target",
	// "extended attribute" and "attribute name".
	What string
	// Offset and Length are the bytes of the file's content that do not read;
	// a Length of 0: none.
	Offset, Length int64
	Err            error // nil if there is no more to say
}

// ScrubOptions say how a volume is scrubbed.
type ScrubOptions struct {
	// From is as ScrubProgress.Next had it: what comes before it in the walk is
	// passed over.
	From Path
	// Only are paths in the backing directory, of files: nothing else is looked
	// at. nil: everything is.
	Only []Path
	Jobs int // files, or parts of one, at a time; 0: as many as there are cores
	// Pace is called with each amount of bytes that was read, from several
	// goroutines; it may wait. Its error ends the scrub. nil: never.
	Pace func(ctx context.Context, bytes int) error
	// Skip is asked about each file, by its name in the tree: one that it wants
	// to be is passed over. Sound is told of each that is proven, when no damage
	// was found in it; its error ends the scrub. nil: none, and nobody.
	Skip  func(name Path) bool
	Sound func(name Path) error
	// Found is told of damage, one at a time. It is needed.
	Found func(Damage)
	// Progress is called after each part of a file, and at the end, one call at a
	// time. nil: never.
	Progress func(ScrubProgress)
}

// ScrubProgress tells how far a scrub has come.
type ScrubProgress struct {
	Objects uint64 `json:"objects"`
	Bytes   uint64 `json:"bytes"` // read
	// Next is where a scrub that was ended goes on; "" at the end.
	Next Path `json:"next"`
}

// Scrub reads the whole tree anew and proves it: every name, link target,
// extended attribute, header, tag page and block, and that holes are zeros. A
// volume may be in use meanwhile; what has not come home yet is proven when it
// is read. Nothing is written. Every integrity error counts in Stats, too.
//
// The walk is in the order of backing names, so that it can be taken up again.
// It must have returned before Close. Errors are ctx's, Pace's, ErrLocked when
// the volume is locked meanwhile, or the store's; damage is none.
func (v *Volume) Scrub(ctx context.Context, opts ScrubOptions) (ScrubProgress, error) {
	if opts.Jobs <= 0 {
		opts.Jobs = runtime.NumCPU()
	}
	s := &scrub{v: v, opts: opts}
	s.group, s.ctx = errgroup.WithContext(ctx)
	s.group.SetLimit(opts.Jobs)
	err := s.walk()
	if also := s.group.Wait(); also != nil && (err == nil || errors.Is(err, context.Canceled)) {
		err = also
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err == nil {
		s.ended = true
	}
	done := s.progress()
	if opts.Progress != nil {
		opts.Progress(done)
	}
	return done, err
}

func (s *scrub) walk() error {
	if s.opts.Only == nil {
		return s.directory(".", ".", s.opts.From.elements())
	}
	for _, p := range s.opts.Only {
		if err := s.file(string(p), ""); err != nil {
			return err
		}
	}
	return nil
}

// Path is a path of any bytes, with slashes. JSON, and whatever else wants
// text, has it percent-encoded as in a URL.
type Path string

// String is what MarshalText writes.
func (p Path) String() string { return (&url.URL{Path: string(p)}).EscapedPath() }

// MarshalText is encoding.TextMarshaler's.
func (p Path) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText is encoding.TextUnmarshaler's.
func (p *Path) UnmarshalText(text []byte) error {
	plain, err := url.PathUnescape(string(text))
	*p = Path(plain)
	return err
}

func (p Path) elements() []string {
	if p == "" || p == "." {
		return nil
	}
	return strings.Split(string(p), "/")
}

// scrub is one walk.
type scrub struct {
	v     *Volume
	opts  ScrubOptions
	ctx   context.Context
	group *errgroup.Group

	found sync.Mutex // held while Found or Progress runs; before mu

	mu    sync.Mutex // guards the rest
	done  ScrubProgress
	open  []*scrubVisit // in the order of the walk, from the oldest that is not done
	ended bool
}

// scrubVisit is an object that is being looked at.
type scrubVisit struct {
	path string
	done bool
}

func (s *scrub) progress() ScrubProgress {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.done
	if s.ended {
		p.Next = ""
	}
	return p
}

// begin notes an object as being looked at: the walk has come as far as the
// oldest of those.
func (s *scrub) begin(backing string) *scrubVisit {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := &scrubVisit{path: backing}
	s.open = append(s.open, v)
	s.done.Objects++
	s.settle()
	return v
}

// end says that an object was looked at, unless that failed.
func (s *scrub) end(v *scrubVisit, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v.done = err == nil
	s.settle()
}

// settle forgets what is done, up to the last. Called with mu held.
func (s *scrub) settle() {
	for len(s.open) > 1 && s.open[0].done {
		s.open = s.open[1:]
	}
	s.done.Next = Path(s.open[0].path)
}

// read accounts for bytes, and waits if there were too many of late.
func (s *scrub) read(n int) error {
	s.mu.Lock()
	s.done.Bytes += uint64(n)
	s.mu.Unlock()
	if s.opts.Progress != nil {
		s.found.Lock()
		s.opts.Progress(s.progress())
		s.found.Unlock()
	}
	if s.opts.Pace != nil {
		return s.opts.Pace(s.ctx, n)
	}
	return s.ctx.Err()
}

func (s *scrub) damage(d Damage) {
	s.found.Lock()
	defer s.found.Unlock()
	s.opts.Found(d)
}

// integrity tells of an integrity error; any other error is handed back.
func (s *scrub) integrity(name string, err error) error {
	if d, ok := errors.AsType[*IntegrityError](err); ok {
		s.damage(Damage{Path: Path(d.Path), Name: Path(name), What: d.What, Err: d.Err})
		return nil
	}
	return err
}

// inside runs do with the volume's gate passed.
func (v *Volume) inside(do func() error) error {
	if err := v.gate.look(); err != nil {
		return err
	}
	defer v.gate.looked()
	return do()
}

// directory walks a directory. name is "" if that is not known. from is what
// is left of the place to begin at.
func (s *scrub) directory(backing, name string, from []string) error {
	visit := s.begin(backing)
	err := s.v.inside(func() error { return s.attributes(backing, name) })
	err = ignoreGone(err)
	s.end(visit, err)
	if err != nil {
		return err
	}
	var entries []store.DirEntry
	err = s.v.inside(func() (err error) {
		entries, err = s.v.st.ReadDir(backing)
		return err
	})
	if err != nil {
		return ignoreGone(err)
	}
	slices.SortFunc(entries, func(a, b store.DirEntry) int { return strings.Compare(a.Name, b.Name) })
	for _, e := range entries {
		below := []string(nil)
		if len(from) > 0 {
			if c := strings.Compare(e.Name, from[0]); c < 0 {
				continue
			} else if c == 0 {
				below = from[1:]
			}
		}
		if err := s.entry(backing, name, e, below); err != nil {
			return err
		}
	}
	return nil
}

// ignoreGone: what was there a moment ago may not be any more.
func ignoreGone(err error) error {
	if isGone(err) {
		return nil
	}
	return err
}

func (s *scrub) entry(dir, dirName string, e store.DirEntry, from []string) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	backing := path.Join(dir, e.Name)
	var plain string
	var ok bool
	err := s.v.inside(func() (err error) {
		plain, ok, err = s.entryName(dir, backing, e.Name)
		return err
	})
	nameless := err != nil
	if err = s.integrity("", err); err != nil || !ok && !nameless {
		return err
	}
	name := ""
	if ok && dirName != "" {
		name = path.Join(dirName, plain)
	}
	switch e.Type & unix.S_IFMT {
	case unix.S_IFDIR:
		return s.directory(backing, name, from)
	case unix.S_IFREG:
		return s.file(backing, name)
	}
	visit := s.begin(backing)
	err = ignoreGone(s.v.inside(func() error { return s.small(backing, name, e.Type) }))
	s.end(visit, err)
	return err
}

// entryName opens an entry's name. One that does not open is damage, if it is
// still there when names are not being changed.
func (s *scrub) entryName(dir, backing, entry string) (plain string, ok bool, err error) {
	plain, ok, err = s.v.names.plain(dir, entry)
	if err == nil {
		return plain, ok, nil
	}
	s.v.tree.RLock()
	defer s.v.tree.RUnlock()
	if _, err := s.v.st.Stat(backing); isGone(err) {
		return "", false, nil
	}
	if plain, ok, err = s.v.names.plain(dir, entry); err == nil {
		return plain, ok, nil
	}
	damage := &IntegrityError{Path: backing, What: "name", Number: -1, Err: err}
	s.v.damaged(damage)
	return "", false, damage
}

// small proves an object that has no content but a link's target.
func (s *scrub) small(backing, name string, kind uint32) error {
	if kind&unix.S_IFMT == unix.S_IFLNK {
		if _, err := s.v.readTarget(backing); err != nil {
			if err = s.integrity(name, err); err != nil {
				return err
			}
		}
	}
	return s.attributes(backing, name)
}

// attributes proves an object's extended attributes.
func (s *scrub) attributes(backing, name string) error {
	stored, err := s.v.st.Listxattr(backing)
	if errors.Is(err, syscall.EOPNOTSUPP) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, attr := range stored {
		plain, ours := strings.CutPrefix(attr, SealedPrefix)
		if !ours {
			continue
		}
		if s.v.names.cipher != nil {
			if plain, err = s.v.names.cipher.Decrypt(plain); err != nil {
				damage := &IntegrityError{Path: backing, What: "attribute name", Number: -1, Err: err}
				s.v.damaged(damage)
				s.damage(Damage{Path: Path(backing), Name: Path(name), What: damage.What, Err: err})
				continue
			}
		}
		_, err := s.v.readAttr(backing, attr, plain)
		if errors.Is(err, syscall.ENODATA) {
			continue // it was removed meanwhile
		}
		if err = s.integrity(name, err); err != nil {
			return err
		}
	}
	return nil
}
