package volume

import (
	"errors"
	"fmt"

	"github.com/akvfs/akvfs/crypto"
)

// LossError says that a lock could not commit everything: what was written
// to Files files and not synced is lost, and their next sync says so. What was
// acknowledged as synced is safe in the journal.
type LossError struct {
	Files int
	Err   error
}

func (e *LossError) Error() string {
	if e.Files == 0 {
		return fmt.Sprintf("not everything could be brought home before the lock: %v", e.Err)
	}
	return fmt.Sprintf("what was written to %d files and not synced is lost: %v", e.Files, e.Err)
}

// Unwrap is why.
func (e *LossError) Unwrap() error { return e.Err }

// Lock commits everything acknowledged and pending, and then zeroes every key
// and drops all plaintext that the volume holds in memory; the master keys are
// the caller's to destroy. From then on every operation is ErrLocked, but
// Close, Stats and Handle.Close. Handles stay open, for Unlock.
//
// The volume is locked when Lock returns, whatever fails: the error is a
// *LossError. A volume that is locked stays so. reason is for the log.
func (v *Volume) Lock(reason string) error {
	v.gate.hold()
	defer v.gate.letGo()
	if v.gate.locked {
		return nil
	}
	err := errors.Join(v.sync(), v.runCheckpoint())
	v.stopBackground()
	lost := 0
	v.gate.alone(func() bool {
		lost = v.dropKeys(err)
		return true
	})
	if err != nil {
		err = &LossError{lost, err}
	}
	v.log.Warn("volume locked", "reason", reason, "error", err)
	return err
}

// dropKeys zeroes what the volume derived from its keys, and plaintext that
// cause kept from being committed. It counts the files that lose something.
// Called with the gate alone.
func (v *Volume) dropKeys(cause error) (lost int) {
	for _, e := range v.table.all() {
		if e.file.Lock(cause) {
			lost++
		}
	}
	v.names.drop()
	v.env.ForgetPages()
	v.values.Destroy()
	v.jcipher.Destroy()
	return lost
}

// Unlock takes up work again with freshly unwrapped keys, which stay the
// caller's and must outlive the volume or its next lock. Every open file's key
// is opened anew. If one does not open, or the keys are not this volume's, the
// volume stays locked. A volume that is not locked is left alone, and does not
// use the keys: taken is false.
func (v *Volume) Unlock(keys Keys) (taken bool, err error) {
	v.gate.hold()
	defer v.gate.letGo()
	if !v.gate.locked {
		return false, nil
	}
	if err := v.info.verify(keys); err != nil {
		return false, err
	}
	v.gate.alone(func() bool {
		err = v.takeKeys(keys)
		return err != nil
	})
	if err != nil {
		return false, err
	}
	v.startBackground()
	v.log.Info("volume unlocked")
	return true, nil
}

// takeKeys derives everything anew, all of it or nothing. Called with the gate
// alone.
func (v *Volume) takeKeys(keys Keys) (err error) {
	defer func() {
		if err != nil {
			v.dropKeys(nil)
		}
	}()
	if err := v.names.take(v.info, keys); err != nil {
		return err
	}
	if v.values, err = renewed(v.values, keys, "xattr"); err != nil {
		return err
	}
	if v.jcipher, err = renewed(v.jcipher, keys, "journal"); err != nil {
		return err
	}
	if v.journal != nil {
		v.journal.Rekey(v.jcipher)
	}
	v.env.Keys = keys
	for _, e := range v.table.all() {
		if err := e.file.Unlock(); err != nil {
			return err
		}
	}
	return nil
}

// renewed is a new cipher in place of a destroyed one, which it returns if
// there is none.
func renewed(old *crypto.BlockCipher, keys Keys, purpose string) (*crypto.BlockCipher, error) {
	c, err := volumeCipher(keys, purpose)
	if err != nil {
		return old, err
	}
	return c, nil
}
