// Package highwater remembers, outside of a volume, the newest of it that this
// host has seen, so that an older one that was put back is noticed. What lies
// in a volume cannot tell: an older keyring or journal is as authentic as it
// was when it was new.
//
// Types: Mark is how far a volume has come: the generation of its keyring and
// the number of its journal's newest frame, neither of which ever falls. Record
// is the file that holds the Mark of one volume in one place. RollbackError
// says that a volume is older than its Mark.
//
// Invariants:
//   - A Mark is of what was durable in the volume before it was recorded. So a
//     crash at any moment leaves a volume that is at least as new, and nobody
//     is locked out by one.
//   - A Record belongs to a volume's ID and the path of its backing directory:
//     a volume that was restored elsewhere has the same ID, and a Record of its
//     own. Where there is none, whatever is found is taken.
//   - A Record is replaced atomically, and only ever raised, except by Reset.
//   - What Raise, Reset and Forget have done is durable when they return: a
//     power cut makes nothing forgotten that was seen, and takes back nothing
//     that somebody has said.
//
// A Record that cannot be read or written is the caller's to tell of; it is no
// reason to refuse a volume. The package never looks into a volume.
//
// A Record has no lock: the volume's own lock sees to it that one process at a
// time writes it, and its caller that one goroutine does.
package highwater
