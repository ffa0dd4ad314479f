package host

import (
	"context"
	"errors"
	"time"

	akvfs "github.com/akvfs/akvfs/fs"
	"github.com/akvfs/akvfs/fs/audit"
	"github.com/akvfs/akvfs/fs/control"
	"github.com/akvfs/akvfs/fs/daemon"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
)

// Access is how volumes that nobody serves are opened for reading.
type Access struct {
	RunDir     string
	StateDir   string // for the audit logs
	Openers    keymgr.Openers
	KeyTimeout time.Duration
	NamesOnly  bool          // see akvfs.Options
	Brief      bool          // see akvfs.Options
	By         *control.Peer // who commands; nil: this process
}

// Open opens the volume in a backing directory by its keys, and has that put on
// record. Errors name the volume.
func (a Access) Open(ctx context.Context, backing string) (f *akvfs.FS, err error) {
	ctx, cancel := context.WithTimeout(ctx, a.KeyTimeout)
	defer cancel()
	c := &daemon.KeyClient{RunDir: a.RunDir, StateDir: a.StateDir, By: a.By}
	err = c.Read(backing, func() error {
		f, err = akvfs.Open(ctx, backing, akvfs.Options{
			Openers: a.Openers, Provider: keymgr.ProviderOptions{Timeout: a.KeyTimeout}, NamesOnly: a.NamesOnly, Brief: a.Brief,
		})
		return err
	})
	if err == nil {
		return f, nil
	}
	if f != nil {
		err = errors.Join(err, f.Close())
	}
	return nil, openError(backing, err)
}

// openError says which volume an error of package fs is about, where it does not.
func openError(backing string, err error) error {
	var key *keymgr.KeyError
	var keyring *keymgr.IntegrityError
	var named *daemon.VolumeError
	var unrecorded *audit.Error
	switch {
	case errors.Is(err, volume.ErrInUse):
		return &daemon.InUseError{Backing: backing}
	case errors.As(err, &key), errors.As(err, &keyring), errors.As(err, &named), errors.As(err, &unrecorded), errors.Is(err, context.Canceled):
		return err
	}
	return &daemon.VolumeError{Backing: backing, Err: err}
}
