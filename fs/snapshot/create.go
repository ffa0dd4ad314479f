package snapshot

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
)

// DefaultMaxHold is how long a snapshot lets those wait who write, at most,
// unless told otherwise.
const DefaultMaxHold = 2 * time.Second

const (
	// littleBytes is how much is little enough to be copied during the
	// standstill: some ten milliseconds of a slow disk, or none where it is in
	// the page cache.
	littleBytes = 4 << 20
	// littleShares is the same for runs of blocks that are shared: some
	// milliseconds.
	littleShares = 64
	// mostRounds is how often what was changed meanwhile is copied again before
	// the standstill, if it does not become little.
	mostRounds = 8
)

// Source is a volume of which a snapshot is made.
type Source struct {
	// Store is the one that the volume works on, unwrapped but for the tracker.
	Store *store.Tracker
	// Volume rests while it is copied, makes room before each round of that, so
	// that it need not during the next, and stands still for the last of the copy;
	// volume.Volume does.
	Volume interface {
		Rest() (wake func(), err error)
		MakeRoom() error
		Still(picture func(volume.Away) error) (held time.Duration, err error)
		Info() volume.Info
		JournalSize() int64
	}
	Keys volume.Keys
}

// Options say how a snapshot is made.
type Options struct {
	Name string
	// MaxHold bounds for how long those wait who write to the volume; 0 stands
	// for DefaultMaxHold. A copy that would take longer is not made.
	MaxHold time.Duration
	// Progress is told how far it is, from several goroutines in turn. May be nil.
	Progress func(Progress)
	Now      func() time.Time // nil: time.Now
}

// BusyError says that those who write would have to wait for too long: a
// volume is written to faster than it can be copied, or has too many files.
type BusyError struct {
	Bytes int64 // that were left to be copied while they wait
	Limit time.Duration
}

func (e *BusyError) Error() string {
	return fmt.Sprintf("writers would have to wait for more than %v: %d bytes and more were left to be copied", e.Limit, e.Bytes)
}

// ExistsError says that there is a snapshot of that name.
type ExistsError struct{ Name string }

func (e *ExistsError) Error() string { return fmt.Sprintf("there is a snapshot %q already", e.Name) }

// Create makes a snapshot in a collection, of which it first clears what
// interrupted others have left. When it returns nil, the snapshot is durable;
// else there is none. Errors are an *ExistsError, *NameError, *BusyError,
// volume.ErrLocked, ctx's, or the stores'.
func Create(ctx context.Context, src Source, c *Collection, opts Options) (*Manifest, error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.MaxHold == 0 {
		opts.MaxHold = DefaultMaxHold
	}
	if err := CheckName(opts.Name); err != nil {
		return nil, err
	}
	if err := c.Clear(); err != nil {
		return nil, err
	}
	if _, err := c.st.Stat(opts.Name); err == nil {
		return nil, &ExistsError{opts.Name}
	}
	p, err := c.begin(opts.Name)
	if err != nil {
		return nil, err
	}
	defer p.end()
	m := &maker{src: src, opts: opts, partial: p, began: time.Now(), changes: store.Changes{}}
	if err := m.take(ctx); err != nil {
		return nil, err
	}
	manifest, err := m.finish(ctx)
	if err != nil {
		return nil, err
	}
	return manifest, p.publish()
}

// maker makes one snapshot.
type maker struct {
	src     Source
	opts    Options
	partial *partial
	copier  *copier
	began   time.Time

	shown   time.Time     // the moment that it shows
	held    time.Duration // the longest time
	tree    *listing
	changes store.Changes // that are to be copied yet
	rate    float64       // of copies, in bytes a second
	away    volume.Away
	meta    map[string][]byte
	keyring *keymgr.Keyring
}

// errMore says that more than little is left to be copied.
var errMore = errors.New("more than little is left")

// take copies the volume, in rounds: all of it, and what was changed meanwhile,
// until little of that is left, which is copied while the volume stands still.
func (m *maker) take(ctx context.Context) error {
	m.copier = &copier{
		from: m.src.Store, to: m.partial.st, staging: stagingName, report: m.opts.Progress,
		copied: map[store.ObjectID]bool{}, noted: Progress{Phase: "copy"},
	}
	m.src.Store.Track(true)
	defer m.src.Store.Track(false)
	wake, err := m.src.Volume.Rest()
	if err != nil {
		return err
	}
	defer wake()
	for round := 0; ; round++ {
		e, err := m.round(ctx)
		if err != nil {
			return err
		}
		last := round == mostRounds
		if last && !e.little() && float64(e.bytes) > m.rate*m.opts.MaxHold.Seconds() {
			return &BusyError{e.bytes, m.opts.MaxHold}
		}
		if !last && (round == 0 || !e.little()) {
			continue
		}
		if err := m.picture(ctx, last); !errors.Is(err, errMore) {
			return err
		}
	}
}

// round copies what was changed since the last one.
func (m *maker) round(ctx context.Context) (e effort, err error) {
	if err := m.src.Volume.MakeRoom(); err != nil { // which changes much
		return e, err
	}
	began := time.Now()
	if err := m.look(ctx); err != nil {
		return e, err
	}
	if e, err = m.copy(ctx); err == nil {
		m.rate = max(m.rate, float64(e.bytes)/time.Since(began).Seconds())
	}
	return e, err
}

// look lists what there is, and what of it was changed.
func (m *maker) look(ctx context.Context) (err error) {
	m.changes.Add(m.src.Store.Take())
	m.tree, err = list(ctx, m.src.Store.FS, m.tree)
	return err
}

// copy copies what is not copied as it is.
func (m *maker) copy(ctx context.Context) (effort, error) {
	changes := m.changes
	m.changes = store.Changes{}
	return m.copier.update(ctx, m.tree, changes)
}

// picture copies what is left while the volume stands still. Unless it has to,
// it does not if that is more than little: errMore.
func (m *maker) picture(ctx context.Context, last bool) error {
	held, err := m.src.Volume.Still(func(away volume.Away) error {
		ctx, cancel := context.WithTimeout(ctx, m.opts.MaxHold)
		defer cancel()
		m.shown, m.away = m.opts.Now(), away
		err := m.look(ctx)
		if err == nil && !last && !m.copier.left(m.tree, m.changes).little() {
			return errMore
		}
		m.copier.phase("hold")
		var e effort
		if err == nil {
			e, err = m.copy(ctx)
		}
		if errors.Is(err, context.DeadlineExceeded) {
			return &BusyError{e.bytes, m.opts.MaxHold}
		}
		if err != nil {
			return err
		}
		return m.readMeta()
	})
	m.held = max(m.held, held)
	return err
}

// readMeta reads the volume's own files, but for journal and lock.
func (m *maker) readMeta() (err error) {
	m.meta = map[string][]byte{}
	meta := volume.Metadata(m.src.Store.FS)
	for _, name := range []string{volume.InfoFile, keymgr.KeyringFile} {
		if m.meta[name], err = meta.ReadFile(name); err != nil {
			return err
		}
	}
	if err := volume.CopyRoot(m.partial.st, m.src.Store.FS); err != nil {
		return err
	}
	m.keyring, err = keymgr.ParseKeyring(m.meta[keymgr.KeyringFile])
	return err
}

// finish makes the tree of what was copied, and writes what describes it.
func (m *maker) finish(ctx context.Context) (*Manifest, error) {
	st := m.partial.st
	if err := m.bringHome(ctx); err != nil {
		return nil, err
	}
	objects, err := m.build(ctx)
	if err != nil {
		return nil, err
	}
	meta := volume.Metadata(st)
	for name, data := range m.meta {
		if err := meta.ReplaceFile(name, data); err != nil {
			return nil, err
		}
	}
	info := m.src.Volume.Info()
	if err := volume.NewJournal(st, info.ID, m.src.Keys); err != nil {
		return nil, err
	}
	manifest := &Manifest{
		Format: manifestFormat, Name: m.opts.Name, Volume: info.ID, Cluster: info.Cluster,
		Created: m.shown.UTC(), Held: m.held.Microseconds(),
		Objects: len(objects), Journal: m.src.Volume.JournalSize(), MasterKeys: masterKeys(m.keyring),
	}
	for _, o := range objects {
		if o.Mode&unix.S_IFMT == unix.S_IFREG && o.Same == "" {
			manifest.Bytes += o.Size
		}
	}
	if manifest.Contents, err = writeContents(st, objects); err != nil {
		return nil, err
	}
	manifest.Took = time.Since(m.began).Microseconds()
	if manifest.MAC, err = manifest.mac(m.src.Keys); err != nil {
		return nil, err
	}
	data, err := manifest.encode()
	if err != nil {
		return nil, err
	}
	return manifest, meta.ReplaceFile(manifestName, data)
}
