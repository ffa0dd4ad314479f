package daemon

import (
	"errors"
	"fmt"
	"strings"

	"github.com/akvfs/akvfs/fs/snapshot"
	"github.com/akvfs/akvfs/keymgr"
)

// AmbiguousKeyError says that a volume has several keys, and that a command
// does not tell which one it means.
type AmbiguousKeyError struct{ KeyIDs []string }

func (e *AmbiguousKeyError) Error() string {
	return "the volume has several keys, and the command does not say which one: " + strings.Join(e.KeyIDs, ", ")
}

// ReadOnlyError says that nothing can be changed in a volume that is mounted
// read-only.
type ReadOnlyError struct{ Backing string }

func (e *ReadOnlyError) Error() string {
	return fmt.Sprintf("volume %s is mounted read-only", e.Backing)
}

// StrandedError says that a key cannot be removed from a volume, because none
// of those that would be left opens it now.
type StrandedError struct {
	KeyID string // the key to be removed
	Err   error  // what the others say
}

func (e *StrandedError) Error() string {
	return fmt.Sprintf("%s is not removed, because no other key opens the volume now: %v", e.KeyID, e.Err)
}

// Unwrap is what the other keys say.
func (e *StrandedError) Unwrap() error { return e.Err }

// Codes of what is refused about a volume's keys.
const (
	CodeAmbiguousKey = "ambiguous-key"
	CodeReadOnly     = "read-only"
	CodeKeyPresent   = "key-present"
	CodeUnknownKey   = "unknown-key"
	CodeLastKey      = "last-key"
)

// refusalCode sorts refusals; "" for other errors.
func refusalCode(err error) string {
	var ambiguous *AmbiguousKeyError
	var readOnly *ReadOnlyError
	var exists *snapshot.ExistsError
	var busy *snapshot.BusyError
	var frozen *FrozenError
	var overlap *OverlapError
	var thawed *ThawedError
	switch {
	case errors.As(err, &frozen):
		return CodeFrozen
	case errors.As(err, &thawed):
		return CodeNotFrozen
	case errors.As(err, &exists):
		return CodeSnapshotExists
	case errors.As(err, &busy):
		return CodeSnapshotBusy
	case errors.As(err, &overlap):
		return CodeSnapshotInside
	case errors.As(err, &ambiguous):
		return CodeAmbiguousKey
	case errors.As(err, &readOnly):
		return CodeReadOnly
	case errors.Is(err, keymgr.ErrKeyPresent):
		return CodeKeyPresent
	case errors.Is(err, keymgr.ErrUnknownKey):
		return CodeUnknownKey
	case errors.Is(err, keymgr.ErrLastKey):
		return CodeLastKey
	}
	return ""
}
