package fusefs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// raw sits between the kernel's requests and go-fuse's tree of nodes. It adds
// what the nodes cannot do: hold a lock until go-fuse has changed its tree
// too, and see flags that go-fuse does not hand on.
type raw struct {
	fuse.RawFileSystem
	t *tree
}

func newRaw(root fs.InodeEmbedder, t *tree, opts *fs.Options) *raw {
	return &raw{fs.NewNodeFS(root, opts), t}
}

// Rename moves an entry in the volume and in go-fuse's tree in one step.
func (r *raw) Rename(cancel <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	return r.t.changeNames(func() fuse.Status { return r.RawFileSystem.Rename(cancel, in, oldName, newName) })
}

// Unlink removes a name in the volume and in go-fuse's tree in one step.
func (r *raw) Unlink(cancel <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	return r.t.changeNames(func() fuse.Status { return r.RawFileSystem.Unlink(cancel, in, name) })
}

// Rmdir removes a directory in the volume and in go-fuse's tree in one step.
func (r *raw) Rmdir(cancel <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	return r.t.changeNames(func() fuse.Status { return r.RawFileSystem.Rmdir(cancel, in, name) })
}

// Writev writes, and clears set-user-ID and set-group-ID first if the kernel
// says that the writer has no right to keep them.
func (r *raw) Writev(cancel <-chan struct{}, in *fuse.WriteIn, data [][]byte) (uint32, fuse.Status) {
	if in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0 {
		if code := r.killSetID(cancel, in); !code.Ok() {
			return 0, code
		}
	}
	return r.RawFileSystem.Writev(cancel, in, data)
}

// Mknod hands the umask on, like the others that make an object with a mode.
func (r *raw) Mknod(cancel <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	in.Mode = withUmask(in.Mode, in.Umask)
	return r.through(func() fuse.Status { return r.RawFileSystem.Mknod(cancel, in, name, out) })
}

// Mkdir makes a directory.
func (r *raw) Mkdir(cancel <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	in.Mode = withUmask(in.Mode, in.Umask)
	return r.through(func() fuse.Status { return r.RawFileSystem.Mkdir(cancel, in, name, out) })
}

// Create makes a file and opens it.
func (r *raw) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	in.Mode = withUmask(in.Mode, in.Umask)
	return r.through(func() fuse.Status { return r.RawFileSystem.Create(cancel, in, name, out) })
}

// Tmpfile makes a file without a name.
func (r *raw) Tmpfile(cancel <-chan struct{}, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	in.Mode = withUmask(in.Mode, in.Umask)
	return r.through(func() fuse.Status { return r.RawFileSystem.Tmpfile(cancel, in, out) })
}

// killSetID is a SETATTR that clears set-user-ID and set-group-ID.
func (r *raw) killSetID(cancel <-chan struct{}, in *fuse.WriteIn) fuse.Status {
	var out fuse.AttrOut
	return r.SetAttr(cancel, &fuse.SetAttrIn{SetAttrInCommon: fuse.SetAttrInCommon{
		InHeader: in.InHeader,
		Valid:    fuse.FATTR_FH | fuse.FATTR_KILL_SUIDGID,
		Fh:       in.Fh,
	}}, &out)
}

// CopyFileRange is left to the kernel, which copies through its cache. It does
// not ask again.
func (r *raw) CopyFileRange(<-chan struct{}, *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	return 0, fuse.Status(syscall.ENOSYS)
}

// Flush answers a close(2), before which the kernel writes back what it holds:
// a close has no other error to tell of, and it syncs nothing. ENOSYS would
// spare the request, but then whoever closes a file of a mount whose daemon was
// killed would not hear of that: what the daemon had taken may be lost.
func (r *raw) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.OK }

// OnUnmount runs when the last request has been answered.
func (r *raw) OnUnmount() {
	r.RawFileSystem.OnUnmount()
	r.t.closeAll()
}
