// Package daemon is the life of one mounted volume: from two directories and
// a key identifier to a mount that serves, and from there to an orderly end.
//
// It is where the parts meet. Start checks the directories, opens the backing
// directory by descriptor, then the keyring with the key providers that it is
// given, then the volume, mounts it through fusefs, and answers on a control
// socket. Nothing is mounted, and nothing in the backing directory changes,
// unless every step before has succeeded. Create makes a new volume. Inspect,
// StatusOf, Statuses and Unmount are the other side: what a command asks about
// volumes, mounted or not.
//
// What is done to keys (keyAdmin: rotate, add, remove, check; rewrapper: file
// keys under a new master key) is the same for a mounted volume, by way of the
// control socket, and for one that is not, in the caller's process (KeyClient).
// follow takes newer versions of keys, tendMasterKeys makes new master keys.
//
// Types: Config says what to mount, Daemon is a mounted volume, Status
// describes one. PathError, InUseError, BusyError and their like carry what
// went wrong; remedies are the command line's.
//
// Invariants:
//   - The end comes in this order: unmounted, committed and closed, keys
//     zeroed, control socket gone, callers answered. Whoever asked for the
//     unmount hears of its success only after the commit, and can mount again.
//   - A mount in use is never detached lazily: a program that starts
//     afterwards would find the bare directory below, and write plaintext there.
//   - A mount whose daemon was killed is cleaned up by the next Start at the
//     same mount point, or of the same volume.
//   - A volume that is not served because of its keys has no key in memory.
//     Losing one of several keys, or a clock that is set, is no reason.
//
// The package keeps no global state, installs no signal handler and never
// prints. It never holds a key's bytes: those are crypto's.
//
// scrubLoop reads and proves everything on a schedule; where it is survives the
// mount, in the state directory.
//
// Locks: Daemon.unmounting serialises attempts to unmount. guard.turn
// serialises locks and unlocks of the volume, and is taken before guard.mu,
// which guards the custody. rewrapper.walk is held by a walk over all files,
// keyAdmin.changing by a change of keys, over the vault's answers; walk comes
// before changing. keys.mu guards which master keys are in use; watch.mu what
// is known of the keys, providers.mu the set of providers, rewrapper.mu a
// walk's status, assessor.mu what was learnt of keys' and credentials' expiry,
// scrubber.mu how scrubs stand: the last six are taken alone, and held over no call.
package daemon
