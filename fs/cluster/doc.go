// Package cluster is the life of a cluster's data directory under a project:
// enabled, so that its files are encrypted and only a mount shows them, and
// disabled, so that they are plain files again.
//
// Types: Host is a host with its projects and clusters; Config is what is
// kept of a cluster, Cluster one that is there, Info what can be told of it.
// Enabling says what to enable. Errors carry what is in the way.
//
// A cluster's record says where its data directory (the database's dbPath) and
// its backing directory are, which may be the same, and a state: enabling,
// enabled, disabling. Each step towards enabled or away from it can be seen on
// the disk, so that Enable and Disable, begun again, find out where they stand.
//
//	backing is data:   encrypt in place
//	backing elsewhere, data empty:  encrypt the empty backing directory in place
//	backing elsewhere, data there:  encrypt data in place, rename it to backing
//	then: shut what the database could write to while nothing is mounted
//
// Invariants:
//   - A record is written before the first change and removed after the last.
//   - While nothing is mounted, neither the data directory nor the backing
//     directory lets the database's user write: a backing directory is root's
//     alone, a bare mount point nobody's, and immutable where that can be.
//   - No two clusters have a directory in common.
//   - What cannot be put on record in the audit log is not done.
//   - A project is not removed while a cluster is its, and no cluster is
//     enabled under a project that is being removed: both hold its lock.
//
// What it never does: it mounts nothing (package daemon does), holds no key and
// prints nothing.
//
// Locks, in this order: the project's (package project), then the cluster's,
// each a file's lock that is not waited for.
package cluster
