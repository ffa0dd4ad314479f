package blockfile

import (
	"syscall"
	"time"

	"github.com/akvfs/akvfs/fs/format"
)

// commitBlocks is how many dirty blocks make a writer commit by itself.
const commitBlocks = 256

// WriteAt writes plaintext. It is in memory when WriteAt returns, with its
// room on the backing store taken, and durable after Commit.
func (f *File) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.WriteBack(p, off)
	if n > 0 {
		f.mu.Lock()
		f.stamp(time.Now())
		f.mu.Unlock()
	}
	return n, err
}

// WriteBack is WriteAt for what somebody wrote before, into a cache that knows
// when: it leaves the time of modification alone.
func (f *File) WriteBack(p []byte, off int64) (int, error) {
	if f.env.Journal == nil {
		return 0, syscall.EROFS
	}
	if off < 0 || off > f.env.maxSize()-int64(len(p)) {
		return 0, syscall.EFBIG
	}
	if len(p) == 0 {
		return 0, nil
	}
	done := 0
	for done < len(p) {
		n := min(len(p)-done, spanBlocks*format.BlockSize)
		if err := f.writeSpan(p[done:done+n], off+int64(done)); err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// writeSpan writes as much as fits into a run.
func (f *File) writeSpan(p []byte, off int64) error {
	if err := f.catchUp(); err != nil {
		return err
	}
	l, err := f.prepare(p, off)
	if err != nil {
		return err
	}
	pending, err := f.write(l, p, off)
	if l != nil {
		runPool.Put(l.run)
	}
	if err != nil {
		return err
	}
	return f.relieve(pending)
}

// write sends what is prepared home and puts the rest into dirty blocks. It
// tells how many blocks the file has pending.
func (f *File) write(l *landing, p []byte, off int64) (pending int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.mayChange(); err != nil {
		return 0, err
	}
	if err := f.allocate(off, int64(len(p))); err != nil {
		return 0, err
	}
	done, err := f.writeDirect(l, p, off)
	for done < len(p) && err == nil {
		var n int
		n, err = f.writeBlock(p[done:], off+int64(done))
		done += n
	}
	if done > 0 { // also when the rest of it failed
		f.size = max(f.size, off+int64(done))
	}
	f.latest = time.Now()
	return len(f.dirty) + len(f.flight), err
}

// writeBlock writes what of p falls into the block at off. Called with mu held.
func (f *File) writeBlock(p []byte, off int64) (int, error) {
	number, skip := off/format.BlockSize, int(off%format.BlockSize)
	n := min(len(p), format.BlockSize-skip)
	d, err := f.dirtyBlock(number, n == format.BlockSize)
	if err != nil {
		return 0, err
	}
	return copy(d.data()[skip:], p[:n]), nil
}

// dirtyBlock gives a block for changing. whole says that all of it will be
// written over, so that its old content need not be read. Called with mu held.
func (f *File) dirtyBlock(number int64, whole bool) (*block, error) {
	if d := f.dirty[number]; d != nil {
		return d, nil
	}
	d := blockPool.Get().(*block)
	if !whole {
		if err := f.load(d, number); err != nil {
			d.free()
			return nil, err
		}
	}
	f.markFirst()
	f.dirty[number] = d
	f.env.pending.Add(format.BlockSize)
	return d, nil
}

// relieve keeps memory bounded: a writer with much pending commits it, and
// beyond that brings it home.
func (f *File) relieve(pending int) error {
	f.mu.RLock()
	dirty, direct := len(f.dirty), len(f.direct)
	f.mu.RUnlock()
	if dirty >= commitBlocks {
		if _, err := f.submit(); err != nil {
			return err
		}
	} else if err := f.land(direct); err != nil {
		return err
	}
	over := pending*format.BlockSize > fileLimit
	if over || (f.env.pending.Load() > pendingLimit && pending >= commitBlocks) {
		return f.Writeback()
	}
	return nil
}
