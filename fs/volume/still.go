package volume

import (
	"errors"
	"syscall"
	"time"
)

// Still runs picture while nothing in the backing directory changes, and
// everything that was written to the volume so far is there, at home: a copy
// made of it then is a volume that was closed cleanly, but for its journal,
// which is to be a new one. What was committed to memory of a program or of
// the kernel only is not.
//
// Whoever reads goes on meanwhile, whoever changes something waits; held is
// how long. Before, most of the work is done without anybody waiting. Errors
// are ErrLocked, syscall.EROFS if the volume is open for reading only, the
// store's or picture's.
func (v *Volume) Still(picture func() error) (held time.Duration, err error) {
	if v.journal == nil {
		return 0, syscall.EROFS
	}
	if err := errors.Join(v.Sync(), v.Checkpoint()); err != nil {
		return 0, err
	}
	v.gate.hold()
	defer v.gate.letGo()
	began := time.Now()
	if v.gate.locked {
		return 0, ErrLocked
	}
	err = v.commitAll() // the background still makes room in the journal
	v.back.turn.Lock()
	defer v.back.turn.Unlock()
	if err == nil {
		err = v.bringHome(v.table.all())
	}
	if err == nil {
		err = picture()
	}
	return time.Since(began), err
}

// Freeze brings everything home and makes it durable there, and lets nobody
// change anything until thaw is called, once: a picture that the disk takes of
// itself meanwhile is a volume that needs no recovery. Errors are Still's.
func (v *Volume) Freeze() (thaw func(), err error) {
	if v.journal == nil {
		return nil, syscall.EROFS
	}
	if err := errors.Join(v.Sync(), v.Checkpoint()); err != nil {
		return nil, err
	}
	v.gate.hold()
	if v.gate.locked {
		err = ErrLocked
	} else {
		err = errors.Join(v.sync(), v.runCheckpoint())
	}
	if err != nil {
		v.gate.letGo()
		return nil, err
	}
	return v.gate.letGo, nil
}
