package store

import "time"

// faultyFile is a file of a Faulty store.
type faultyFile struct {
	faulty *Faulty
	file   File
	name   string
}

func (f *faultyFile) run(op Op, do func() error) error {
	op.Name, op.File = f.name, true
	return f.faulty.run(op, do)
}

func (f *faultyFile) ReadAt(p []byte, off int64) (n int, err error) {
	err = f.run(Op{Kind: OpRead, Off: off, Len: int64(len(p))}, func() (err error) {
		n, err = f.file.ReadAt(p, off)
		return err
	})
	return n, err
}

func (f *faultyFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.run(Op{Kind: OpWrite, Off: off, Len: int64(len(p))}, func() (err error) {
		n, err = f.file.WriteAt(p, off)
		return err
	})
	if err != nil && n == len(p) {
		n = 0 // done late: how much is not known
	}
	return n, err
}

func (f *faultyFile) Truncate(size int64) error {
	return f.run(Op{Kind: OpTruncate, Len: size}, func() error { return f.file.Truncate(size) })
}

func (f *faultyFile) Stat() (a Attr, err error) {
	err = f.run(Op{Kind: OpStat}, func() (err error) {
		a, err = f.file.Stat()
		return err
	})
	return a, err
}

func (f *faultyFile) Sync() error { return f.run(Op{Kind: OpSync}, f.file.Sync) }

func (f *faultyFile) Datasync() error { return f.run(Op{Kind: OpDatasync}, f.file.Datasync) }

func (f *faultyFile) Allocate(mode uint32, off, length int64) error {
	op := Op{Kind: OpAllocate, Off: off, Len: length, Flags: int(mode)}
	return f.run(op, func() error { return f.file.Allocate(mode, off, length) })
}

func (f *faultyFile) Seek(off int64, whence int) (pos int64, err error) {
	err = f.run(Op{Kind: OpSeek, Off: off, Flags: whence}, func() (err error) {
		pos, err = f.file.Seek(off, whence)
		return err
	})
	return pos, err
}

func (f *faultyFile) Chmod(mode uint32) error {
	return f.run(Op{Kind: OpChmod}, func() error { return f.file.Chmod(mode) })
}

func (f *faultyFile) Chown(uid, gid int) error {
	return f.run(Op{Kind: OpChown}, func() error { return f.file.Chown(uid, gid) })
}

func (f *faultyFile) Chtimes(atime, mtime *time.Time) error {
	return f.run(Op{Kind: OpChtimes}, func() error { return f.file.Chtimes(atime, mtime) })
}

func (f *faultyFile) LinkTo(newName string) error {
	return f.run(Op{Kind: OpLink, To: newName}, func() error { return f.file.LinkTo(newName) })
}

// Close closes the file whatever the hook says, and then answers as it says.
func (f *faultyFile) Close() error {
	err := f.file.Close()
	if asked := f.run(Op{Kind: OpClose}, func() error { return nil }); asked != nil {
		return asked
	}
	return err
}
