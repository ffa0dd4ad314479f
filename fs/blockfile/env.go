package blockfile

import (
	"fmt"
	"sync/atomic"
	"syscall"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/journal"
)

// Keys makes and opens file keys: the part of the key hierarchy that a file needs.
type Keys interface {
	// WrapFileKey wraps a file's key under the active master key.
	WrapFileKey(file [16]byte, k *crypto.Key) (master [16]byte, wrapped []byte, err error)
	UnwrapFileKey(file, master [16]byte, wrapped []byte) (*crypto.Key, error)
}

// Env is what all files of one open volume share.
type Env struct {
	Volume  [16]byte
	Keys    Keys
	Nonces  *crypto.NonceSource // nil in a read-only volume
	Journal *journal.Journal    // nil in a read-only volume
	// Damage is told of every integrity error, once each time it is met.
	Damage func(*IntegrityError)
	// MakeRoom asks for a checkpoint; it does not wait.
	MakeRoom func()
	// MaxSize is the largest plaintext size that the store has room for in one
	// file, in bytes; 0 stands for the format's.
	MaxSize int64

	pages   *lru.Cache[pageKey, *format.TagPage]
	hits    atomic.Uint64
	misses  atomic.Uint64
	pending atomic.Int64  // bytes of dirty blocks and blocks in flight, of all files
	files   atomic.Uint64 // Files made so far
}

func (e *Env) maxSize() int64 {
	if e.MaxSize == 0 {
		return format.MaxSize
	}
	return e.MaxSize
}

const (
	// pendingLimit is how many bytes all files together may have dirty or in
	// flight before a writer brings its own blocks home first.
	pendingLimit = 48 << 20
	// fileLimit is the same for one file.
	fileLimit = 8 << 20
)

// SetPageCache bounds the memory, in bytes, for verified tag pages. It must
// be called once, before any file is opened.
func (e *Env) SetPageCache(bytes int) error {
	cache, err := lru.New[pageKey, *format.TagPage](max(bytes/format.PageSize, 16))
	e.pages = cache
	return err
}

// cachedPage is a verified tag page, or nil.
func (e *Env) cachedPage(key pageKey) *format.TagPage {
	p, ok := e.pages.Get(key)
	if ok {
		e.hits.Add(1)
	} else {
		e.misses.Add(1)
	}
	return p
}

// ForgetPages empties the cache of tag pages.
func (e *Env) ForgetPages() { e.pages.Purge() }

// CachedPages is how many tag pages the cache holds.
func (e *Env) CachedPages() int { return e.pages.Len() }

// PageCache tells how often a tag page was found in the cache, and how often
// it had to be read from home.
func (e *Env) PageCache() (hits, misses uint64) { return e.hits.Load(), e.misses.Load() }

// Pending is how many bytes wait in memory, dirty or in flight.
func (e *Env) Pending() int64 { return e.pending.Load() }

// pageKey names a verified tag page of a File.
type pageKey struct {
	file  uint64
	group int64
}

// IntegrityError says that what lies in the backing file is not what was
// written there: changed, moved, cut, or put back from elsewhere.
type IntegrityError struct {
	Path string // in the backing directory
	What string // "block", "tag page", "header", "size"
	// Number is the block's or the group's number, and -1 where there is none.
	Number int64
	Err    error
}

func (e *IntegrityError) Error() string {
	s := "integrity error: " + e.What
	if e.Number >= 0 {
		s = fmt.Sprintf("%s %d", s, e.Number)
	}
	s = fmt.Sprintf("%s of backing file %q", s, e.Path)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap gives the cause, and EIO, which is what a program sees.
func (e *IntegrityError) Unwrap() []error { return []error{e.Err, syscall.EIO} }
