package convert

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
)

// Config is what a conversion needs from above.
type Config struct {
	// Create makes the volume in an empty directory. It is called once, before
	// anything is encrypted, and again if the process ended before it returned.
	Create func(ctx context.Context, backing store.FS) error
	// Open opens that volume for reading and writing. Closing the volume is
	// the conversion's; what Open returns besides then drops the keys.
	Open func(ctx context.Context, backing store.FS) (*volume.Volume, func(), error)
	// Observe hears of progress, often; nil hears nothing.
	Observe func(Progress)
	// VolumeBytes is what an empty volume takes, such as its journal.
	VolumeBytes int64
	// OnlyEmpty refuses to encrypt anything: the directory may have only what
	// this package has made in it, from when nobody but root can put anything
	// there.
	OnlyEmpty bool
	// BatchBytes bounds the content that is on both sides at a time, other than
	// that of a single file; 0 is 64 MiB.
	BatchBytes int64
}

const (
	defaultBatchBytes = 64 << 20
	batchUnits        = 512
)

func (c Config) withDefaults() Config {
	if c.Observe == nil {
		c.Observe = func(Progress) {}
	}
	if c.BatchBytes <= 0 {
		c.BatchBytes = defaultBatchBytes
	}
	return c
}

// Progress tells how far one run is; what earlier runs did is not in it.
type Progress struct {
	Files, TotalFiles int64
	Bytes, TotalBytes int64 // of content, holes left out
	Elapsed           time.Duration
}

// Rate is in bytes a second; 0 if it is not known yet.
func (p Progress) Rate() float64 {
	if p.Elapsed <= 0 {
		return 0
	}
	return float64(p.Bytes) / p.Elapsed.Seconds()
}

// Left is the time that the rest takes at that rate; 0 if it is not known yet.
func (p Progress) Left() time.Duration {
	rate := p.Rate()
	if rate == 0 {
		return 0
	}
	return time.Duration(float64(p.TotalBytes-p.Bytes) / rate * float64(time.Second)).Round(time.Second)
}

// Problem is something in a tree that cannot be converted as it is.
type Problem struct {
	Path string `json:"path"`
	What string `json:"what"`
}

// ProblemsError says why a conversion was not begun. Nothing was changed.
type ProblemsError struct{ Problems []Problem }

func (e *ProblemsError) Error() string {
	p := e.Problems[0]
	if n := len(e.Problems) - 1; n > 0 {
		return fmt.Sprintf("%q %s, and %d more", p.Path, p.What, n)
	}
	return fmt.Sprintf("%q %s", p.Path, p.What)
}

// SpaceError says that the largest file does not fit beside itself.
type SpaceError struct {
	Path       string
	Need, Free int64 // bytes
}

func (e *SpaceError) Error() string {
	return fmt.Sprintf("%q %s", e.Path, e.short())
}

func (e *SpaceError) short() string {
	return fmt.Sprintf("needs %d bytes of free space beside itself, and there are %d", e.Need, e.Free)
}

// FilesError lists files that could not be converted. They are as they were,
// all others are converted, and the next run tries them again.
type FilesError struct{ Failed []error }

func (e *FilesError) Error() string {
	if n := len(e.Failed) - 1; n > 0 {
		return fmt.Sprintf("%v, and %d more", e.Failed[0], n)
	}
	return e.Failed[0].Error()
}

func (e *FilesError) Unwrap() []error { return e.Failed }

// FileError is a file that could not be converted, and why.
type FileError struct {
	Path string
	Err  error
}

func (e *FileError) Error() string { return fmt.Sprintf("%q: %v", e.Path, e.Err) }
func (e *FileError) Unwrap() error { return e.Err }

var (
	// ErrChanged says that a file changed while it was converted.
	ErrChanged = errors.New("the file changed meanwhile")
	// ErrReadBack says that a copy did not read back as it was written.
	ErrReadBack = errors.New("the copy reads back differently")
	// ErrNothing says that there is nothing of the kind to convert.
	ErrNothing = errors.New("there is no volume and no unfinished conversion")
	// ErrVolume says that the directory is a volume already.
	ErrVolume = errors.New("the directory is a volume already")
	// ErrState says that the state of a conversion cannot be read.
	ErrState = errors.New("the state of the conversion is damaged")
	// ErrInUse says that another process converts the directory.
	ErrInUse = errors.New("another process is converting the directory")
)
