// Package devvolume is a throwaway encrypted volume for a program's tests:
// made under an embedded key store of its own, mounted, and taken away with
// all that was in it when the program ends, however it ends.
//
// A process of its own, the keeper, makes, mounts and removes the volume. A
// socket ties it to the process that wants the volume: when that closes its
// end, or dies, the keeper ends. So a program that panics or is killed leaves
// no mount; if the keeper is killed, the other side cleans up; and if both are,
// the next keeper in the same directory does.
//
//	Start     starts a keeper and returns its Keeper: where the volume is
//	Inherited tells a process that it is to be a keeper
//	Keep      is a keeper's life
//	Able      tells whether this host can mount at all
//
// A keeper is this very program, started again: whoever uses Start has to call
// Inherited early, and Keep if there is something to inherit.
//
// Invariants:
//   - What is removed lies below a directory that a keeper made, whose lock
//     nobody holds, and in which nothing is mounted any more.
//   - The keeper shares no terminal, output or process group with the program:
//     no Ctrl-C ends it too early, and nobody waits for it to close a pipe.
//
// Unlike everywhere else in akvfs, a mount that is in use is detached lazily at
// the end: what was in it is thrown away, and whoever still uses it gets errors.
//
// It is no place for data: the key lies beside it. The package prints nothing
// and keeps no locks; Keeper is for one goroutine at a time.
package devvolume
