// Package snapshot takes pictures of volumes and keeps them.
//
// A snapshot is a volume of its own, encrypted as its original is and opened
// by the same keys, in a directory of the operator's choice (a collection):
//
//	COLLECTION/NAME/.akvfs/   volume.json, keyring.json, journal/, lock,
//	                          manifest.json, contents.jsonl
//	COLLECTION/NAME/…         the tree
//	COLLECTION/.NAME.partial/ one that is being made; never looked at, and
//	                          cleared by whoever makes the next
//
// Create makes one while programs write to the volume: it copies the backing
// files, then again the parts that were changed meanwhile, until these are few,
// and only for the last of it lets the volume stand still. Where the file system
// shares blocks between files (XFS, btrfs) nothing is copied at all. What is
// committed and not at home at the standstill is kept in memory, and put over
// the copies once the volume goes on. So a snapshot is one point in time: that
// of the standstill.
//
// What the snapshot holds is told by its manifest, which is authentic under a
// key of the volume and binds contents.jsonl: one line for each object, with a
// digest of a file's header and tag pages, that is of every block's
// authentication tag. Without keys a snapshot can be held against both, and
// with them every block proven.
//
// Names of snapshots are those of files. A name is given its directory in one
// rename, after everything is durable.
package snapshot
