package volume

import (
	"errors"
	"syscall"
	"time"

	"github.com/akvfs/akvfs/fs/blockfile"
)

// Before the volume is held, what can be done with nobody waiting is done, and
// again what has come meanwhile, until it takes no longer than soonDone: as
// long as those wait who write, about. Who writes without end is held then.
const (
	soonDone  = 10 * time.Millisecond
	mostTurns = 5
	// mostlyFree is the part of the journal that may be in use for MakeRoom.
	mostlyFree = 0.25
)

// Away is what files have that is not at home, by inode number in the backing
// file system.
type Away map[uint64]*blockfile.Away

// Rest commits everything and brings it home. Until wake is called, what is
// committed after that stays away from home for longer, as long as there is
// room for it in memory and in the journal: who copies the backing directory
// meanwhile finds the less of it changed. Errors are Still's.
func (v *Volume) Rest() (wake func(), err error) {
	if err := v.commitUnless(0); err != nil { // some of the journal is always in use
		return nil, err
	}
	v.back.rests.Add(1)
	return func() { v.back.rests.Add(-1) }, nil
}

// MakeRoom is for who has copied for a while: it commits everything, and brings
// it home unless most of the journal is free. What is committed soon after need
// not be brought home to make room then. Errors are Still's.
func (v *Volume) MakeRoom() error { return v.commitUnless(mostlyFree) }

// commitUnless commits everything, and brings it home unless no more than a
// part of the journal is in use.
func (v *Volume) commitUnless(used float64) error {
	if v.journal == nil {
		return syscall.EROFS
	}
	if err := v.gate.change(); err != nil {
		return err
	}
	defer v.gate.changed()
	if err := v.commitAll(); err != nil {
		return err
	}
	v.back.turn.Lock()
	defer v.back.turn.Unlock()
	if v.journal.Fill() <= used {
		return nil
	}
	return v.takeTurn()
}

// Still runs picture while nothing in the backing directory changes, and
// everything that was written to the volume so far is committed. A copy made of
// the directory then, with what picture is given as away put over it, is a
// volume that was closed cleanly, but for its journal, which is to be a new
// one. What was committed to memory of a program or of the kernel only is not.
//
// Whoever reads goes on meanwhile, whoever changes something waits; held is
// how long, from when the first has to. Errors are ErrLocked, syscall.EROFS if
// the volume is open for reading only, the store's or picture's.
func (v *Volume) Still(picture func(Away) error) (held time.Duration, err error) {
	if v.journal == nil {
		return 0, syscall.EROFS
	}
	if err := v.settleDown(v.commitInTurn); err != nil {
		return 0, err
	}
	began := time.Now()
	v.gate.hold()
	defer v.gate.letGo()
	if v.gate.locked {
		return 0, ErrLocked
	}
	err = v.commitAll() // the background still makes room in the journal
	v.back.turn.Lock()
	defer v.back.turn.Unlock()
	if err == nil {
		err = v.show(picture)
	}
	return time.Since(began), err
}

// show runs picture. Called with the gate and back.turn held, after commitAll.
func (v *Volume) show(picture func(Away) error) error {
	away := Away{}
	for _, e := range v.table.all() {
		a, err := e.file.Away()
		if err != nil {
			return err
		}
		if a != nil {
			away[e.ino] = a
		}
	}
	return picture(away)
}

// commitInTurn is commitAll, and waits for a checkpoint that is under way.
func (v *Volume) commitInTurn() error {
	err := v.commitAll()
	v.back.turn.Lock()
	defer v.back.turn.Unlock()
	return err
}

// settleDown does what a hold would have to, while nobody waits for it, until
// little of it is left.
func (v *Volume) settleDown(do func() error) error {
	for range mostTurns {
		if err := v.gate.change(); err != nil {
			return err
		}
		began := time.Now()
		err := do()
		v.gate.changed()
		if err != nil || time.Since(began) < soonDone {
			return err
		}
	}
	return nil
}

// Freeze brings everything home and makes it durable there, and lets nobody
// change anything until thaw is called, once: a picture that the disk takes of
// itself meanwhile is a volume that needs no recovery. Errors are Still's.
func (v *Volume) Freeze() (thaw func(), err error) {
	if v.journal == nil {
		return nil, syscall.EROFS
	}
	all := func() error { return errors.Join(v.sync(), v.runCheckpoint()) }
	if err := v.settleDown(all); err != nil {
		return nil, err
	}
	v.gate.hold()
	if v.gate.locked {
		err = ErrLocked
	} else {
		err = all()
	}
	if err != nil {
		v.gate.letGo()
		return nil, err
	}
	return v.gate.letGo, nil
}
