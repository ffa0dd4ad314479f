// Package volume is an encrypted directory tree: one cluster's data, in a
// backing directory that it reaches through package store.
//
// It keeps the tree's names and metadata in the backing tree itself, one
// object for one, with names encrypted or plain as chosen at Create; contents
// are package blockfile's, and what must survive a power cut goes through
// package journal. A background goroutine commits what nobody synced, brings
// committed blocks home and frees the journal (checkpoint).
//
//	BACKING/.akvfs/   volume.json, keyring.json, journal/, lock
//	BACKING/…         the tree
//
// Invariants:
//   - The path in a file's journal records is durable before any of them is
//     acknowledged, and before any of its blocks comes home: whoever changes a
//     name settles the file first and marks it fresh after.
//   - An open file is in the table under its inode number, once, until it has
//     nothing left to commit, bring home or make durable.
//   - .akvfs is not reachable through the tree.
//
// Every operation passes through one gate, at which a volume is held or locked:
// a locked one has no keys in memory and answers ENOKEY, see Lock.
//
// Locks, in order: Volume.rewrapping (held by a walk of Rewrap), the gate,
// Volume.tree (shared by what uses a path and an open file
// together, exclusive for what changes names), table.mu, then blockfile's.
// Reads, writes and syncs of an open handle take of the first three only the gate.
//
// The package knows neither FUSE nor Azure.
package volume
