package store

import (
	"errors"
	"io"
	"sync/atomic"
	"syscall"
	"time"
)

// Faulty is a store that asks a Hook before every operation of another one.
// Over a real directory it cannot take back what was not synced; it only
// fails. Closing always closes what is below, whatever the hook says.
type Faulty struct {
	fs   FS
	gate gate
	cut  atomic.Bool
}

var (
	_ FS     = (*Faulty)(nil)
	_ Locker = (*Faulty)(nil)
)

// NewFaulty puts hook, which may be nil, before every operation of fs.
func NewFaulty(fs FS, hook Hook) *Faulty {
	f := &Faulty{fs: fs}
	f.SetHook(hook)
	return f
}

// SetHook sets another hook; nil lets everything pass.
func (f *Faulty) SetHook(h Hook) { f.gate.set(h) }

// Ops counts the operations begun so far.
func (f *Faulty) Ops() uint64 { return f.gate.n.Load() }

func (f *Faulty) run(op Op, do func() error) error {
	answer, done := f.gate.ask(&op)
	if f.cut.Load() {
		answer, done = ErrCut, false
	}
	var err error
	if done {
		err = do()
	}
	if errors.Is(answer, ErrCut) {
		f.cut.Store(true)
	}
	if answer != nil {
		return op.wrap(answer)
	}
	return err
}

// OpenFile is FS's.
func (f *Faulty) OpenFile(name string, flag int, perm uint32) (File, error) {
	var file File
	err := f.run(Op{Kind: OpOpen, Name: name, Flags: flag}, func() (err error) {
		file, err = f.fs.OpenFile(name, flag, perm)
		return err
	})
	if err != nil {
		if file != nil {
			file.Close()
		}
		return nil, err
	}
	return &faultyFile{faulty: f, file: file, name: name}, nil
}

// Stat is FS's.
func (f *Faulty) Stat(name string) (a Attr, err error) {
	err = f.run(Op{Kind: OpStat, Name: name}, func() (err error) {
		a, err = f.fs.Stat(name)
		return err
	})
	return a, err
}

// ReadDir is FS's.
func (f *Faulty) ReadDir(name string) (entries []DirEntry, err error) {
	err = f.run(Op{Kind: OpReadDir, Name: name}, func() (err error) {
		entries, err = f.fs.ReadDir(name)
		return err
	})
	return entries, err
}

// Readlink is FS's.
func (f *Faulty) Readlink(name string) (target string, err error) {
	err = f.run(Op{Kind: OpReadlink, Name: name}, func() (err error) {
		target, err = f.fs.Readlink(name)
		return err
	})
	return target, err
}

// Mkdir is FS's.
func (f *Faulty) Mkdir(name string, perm uint32) error {
	return f.run(Op{Kind: OpMkdir, Name: name}, func() error { return f.fs.Mkdir(name, perm) })
}

// Mknod is FS's.
func (f *Faulty) Mknod(name string, mode uint32, dev uint64) error {
	return f.run(Op{Kind: OpMknod, Name: name}, func() error { return f.fs.Mknod(name, mode, dev) })
}

// Symlink is FS's.
func (f *Faulty) Symlink(target, name string) error {
	return f.run(Op{Kind: OpSymlink, Name: name}, func() error { return f.fs.Symlink(target, name) })
}

// Link is FS's.
func (f *Faulty) Link(oldName, newName string) error {
	return f.run(Op{Kind: OpLink, Name: oldName, To: newName}, func() error { return f.fs.Link(oldName, newName) })
}

// Unlink is FS's.
func (f *Faulty) Unlink(name string) error {
	return f.run(Op{Kind: OpUnlink, Name: name}, func() error { return f.fs.Unlink(name) })
}

// Rmdir is FS's.
func (f *Faulty) Rmdir(name string) error {
	return f.run(Op{Kind: OpRmdir, Name: name}, func() error { return f.fs.Rmdir(name) })
}

// Rename is FS's.
func (f *Faulty) Rename(oldName, newName string, flags uint) error {
	op := Op{Kind: OpRename, Name: oldName, To: newName, Flags: int(flags)}
	return f.run(op, func() error { return f.fs.Rename(oldName, newName, flags) })
}

// Chmod is FS's.
func (f *Faulty) Chmod(name string, mode uint32) error {
	return f.run(Op{Kind: OpChmod, Name: name}, func() error { return f.fs.Chmod(name, mode) })
}

// Chown is FS's.
func (f *Faulty) Chown(name string, uid, gid int) error {
	return f.run(Op{Kind: OpChown, Name: name}, func() error { return f.fs.Chown(name, uid, gid) })
}

// Chtimes is FS's.
func (f *Faulty) Chtimes(name string, atime, mtime *time.Time) error {
	return f.run(Op{Kind: OpChtimes, Name: name}, func() error { return f.fs.Chtimes(name, atime, mtime) })
}

// Getxattr is FS's.
func (f *Faulty) Getxattr(name, attr string) (value []byte, err error) {
	err = f.run(Op{Kind: OpGetxattr, Name: name}, func() (err error) {
		value, err = f.fs.Getxattr(name, attr)
		return err
	})
	return value, err
}

// Setxattr is FS's.
func (f *Faulty) Setxattr(name, attr string, value []byte, flags int) error {
	return f.run(Op{Kind: OpSetxattr, Name: name}, func() error { return f.fs.Setxattr(name, attr, value, flags) })
}

// Listxattr is FS's.
func (f *Faulty) Listxattr(name string) (attrs []string, err error) {
	err = f.run(Op{Kind: OpListxattr, Name: name}, func() (err error) {
		attrs, err = f.fs.Listxattr(name)
		return err
	})
	return attrs, err
}

// Removexattr is FS's.
func (f *Faulty) Removexattr(name, attr string) error {
	return f.run(Op{Kind: OpRemovexattr, Name: name}, func() error { return f.fs.Removexattr(name, attr) })
}

// SyncDir is FS's.
func (f *Faulty) SyncDir(name string) error {
	return f.run(Op{Kind: OpSyncDir, Name: name}, func() error { return f.fs.SyncDir(name) })
}

// Statfs is FS's.
func (f *Faulty) Statfs() (s Statfs, err error) {
	err = f.run(Op{Kind: OpStatfs, Name: "."}, func() (err error) {
		s, err = f.fs.Statfs()
		return err
	})
	return s, err
}

// SyncAll is Syncer's; a store that is none answers EOPNOTSUPP.
func (f *Faulty) SyncAll() error {
	return f.run(Op{Kind: OpSyncAll, Name: "."}, func() error {
		s, ok := f.fs.(Syncer)
		if !ok {
			return syscall.EOPNOTSUPP
		}
		return s.SyncAll()
	})
}

// TryLock is Locker's; a store that has no locks answers EOPNOTSUPP.
func (f *Faulty) TryLock(name string) (lock io.Closer, err error) {
	err = f.run(Op{Kind: OpLock, Name: name}, func() (err error) {
		l, ok := f.fs.(Locker)
		if !ok {
			return syscall.EOPNOTSUPP
		}
		lock, err = l.TryLock(name)
		return err
	})
	if err != nil && lock != nil {
		lock.Close()
		lock = nil
	}
	return lock, err
}

// Close closes the store below; it is no operation for the hook.
func (f *Faulty) Close() error { return f.fs.Close() }
