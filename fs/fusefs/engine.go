package fusefs

import (
	"syscall"

	"github.com/akvfs/akvfs/fs/volume"
)

// Owner is whom a new object belongs to.
type Owner = volume.Owner

// engine makes a Volume of the engine's volume: its handles are a concrete
// type there and an interface here.
type engine struct{ *volume.Volume }

var _ Handle = (*volume.Handle)(nil)

// Mount mounts a volume. The mount is usable when Mount returns. The volume
// stays the caller's, to close when Wait has returned. Errors are a
// *MountError or an *OptionError.
func Mount(v *volume.Volume, mountpoint string, opts Options) (*Server, error) {
	return MountFS(engine{v}, mountpoint, opts)
}

func (e engine) OpenFile(path string, flags int, mode uint32, owner Owner) (Handle, error) {
	h, err := e.Volume.OpenFile(path, flags, mode, owner)
	if err != nil {
		return nil, err // never a nil *volume.Handle in a Handle
	}
	return h, nil
}

func (e engine) OpenTemp(dir string, mode uint32, owner Owner) (Handle, error) {
	h, err := e.Volume.OpenTemp(dir, mode, owner)
	if err != nil {
		return nil, err
	}
	return h, nil
}

// Errno is volume.Errno.
func (engine) Errno(err error) syscall.Errno { return volume.Errno(err) }
