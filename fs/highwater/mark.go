package highwater

import "fmt"

// Mark is how far a volume has come. The zero Mark is behind every volume.
type Mark struct {
	Keyring uint64 `json:"keyring"` // its generation
	Journal uint64 `json:"journal"` // the number of its newest frame
}

// Part is what a Mark counts.
type Part string

// The parts of a Mark.
const (
	Keyring Part = "keyring"
	Journal Part = "journal"
)

// RollbackError says that a part of a volume is older than it was.
type RollbackError struct {
	Part        Part
	Found, Seen uint64
}

func (e *RollbackError) Error() string {
	return fmt.Sprintf("the %s is older than this host has seen it: it is at %d, and was at %d", e.Part, e.Found, e.Seen)
}

// CheckKeyring refuses a generation older than the Mark's.
func (m Mark) CheckKeyring(generation uint64) error { return check(Keyring, generation, m.Keyring) }

// CheckJournal refuses a newest frame older than the Mark's.
func (m Mark) CheckJournal(frame uint64) error { return check(Journal, frame, m.Journal) }

func check(part Part, found, seen uint64) error {
	if found < seen {
		return &RollbackError{part, found, seen}
	}
	return nil
}

// raised is the higher of two in each part.
func (m Mark) raised(to Mark) Mark {
	return Mark{Keyring: max(m.Keyring, to.Keyring), Journal: max(m.Journal, to.Journal)}
}
