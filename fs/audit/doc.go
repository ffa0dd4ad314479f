// Package audit writes an append-only log of what was done to a volume's keys
// and by whom: one JSON object a line.
//
// Log is one file. Append writes a line with one write(2) to a descriptor
// opened with O_APPEND, so that lines of several goroutines, or of several
// daemons with one log, never mix. Before each line it looks whether the path
// still names that file, so that a log which logrotate has renamed is begun
// anew, and one which it has truncated goes on.
//
// Record is a line about a key, a command or the mount; whoever has other
// things to tell passes a type of its own. Process tells who is behind a
// process ID. Refusals bounds how many lines those get who may not do what they
// ask for.
//
// Invariants: a line is complete or Append says that it is not, and what
// follows an incomplete line begins on a line of its own. No field takes a
// secret, and none that somebody else has chosen, such as a program's name,
// holds a control character.
//
// Locks: Log.mu is held for one line's writing, Refusals.mu for counting.
package audit
