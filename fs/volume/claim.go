package volume

import (
	"io"

	"github.com/akvfs/akvfs/fs/store"
)

// Claim takes the volume's lock without opening it, for whoever changes its
// keyring while it is not mounted. Closing gives it back. ErrInUse.
func Claim(st store.FS) (io.Closer, error) { return tryLock(st, false) }

// ClaimToRead is Claim for whoever only reads: where the lock cannot be taken
// because nobody can write, there is none, and the Closer is nil.
func ClaimToRead(st store.FS) (io.Closer, error) { return tryLock(st, true) }
