// Package fusefs shows a volume to the kernel as a FUSE file system. It is a
// thin layer: each method of a node finds the object's path or open file,
// makes one call of the volume, and turns its error into an errno. It knows
// nothing of blocks, keys or names on disk, and it never follows a symbolic
// link: that is the kernel's business.
//
// Types: Mount (or MountFS, for another Volume than the engine's) gives a
// Server. Inside, tree is one mount, and there is one type of node for each
// kind of object: dir, file, symlink, special. openFile is a regular file's
// one open file in the volume, shared by all of the kernel's handles on it.
// raw sits between the requests that fuseloop brings and go-fuse's tree and adds
// what go-fuse has no hook for.
//
// What the kernel does here, and what follows:
//   - Its write-back cache is on. It owns size and times of a regular file
//     while it caches it, reads pages through handles that were opened for
//     writing only, and sends times in a request of their own (SETATTR). So
//     every file is opened for reading and writing, unless the mount is
//     read-only.
//   - It checks permissions itself (default_permissions), and keeps locks
//     (POSIX, OFD, flock) itself: nobody else serves this volume.
//   - It leaves the clearing of set-user-ID and set-group-ID at a write,
//     truncate or chown to us (CAP_HANDLE_KILLPRIV_V2), and says when.
//   - It holds a directory's lock during every change of its entries, from
//     before the request until after the reply. Lookups and changes in one
//     directory never meet; what meets is a change above, or an operation on
//     the object that is being renamed or removed.
//
// Invariants:
//   - An object has one node, however many names it has. The node's identity
//     is the inode number and the time of birth of the backing object, so that
//     an inode number which is used again never meets the pages that the
//     kernel cached for its predecessor.
//   - go-fuse's tree and the volume's change together: a path computed with
//     tree.names held names its object until names is let go.
//   - An object with no name left answers through its open file. A file is held
//     open from before its last name goes until the kernel forgets it, for
//     those who have just looked the name up. What has no open file answers
//     ESTALE, at which the kernel looks the path up again, once.
//   - Nothing that the kernel may cache changes behind its back, so that
//     entries and attributes are good for long.
//
// What differs from the file system below, and cannot be helped, is in
// docs/POSIX.md.
//
// Locks: tree.door is held shared by requests that could be answered without
// the volume, or that make something known to the kernel, for as long as they
// take; a lock of the volume closes it. tree.names comes next: it is held
// shared by whatever uses a path, and exclusively by rename, unlink and rmdir
// (raw takes it, around go-fuse's own change of its tree). openFile.mu,
// tree.openMu, ghost.mu, listing.mu and shelf.mu are leaves: nothing is locked,
// and the volume is not called, while they are held. read, write, fsync, flush
// and getattr of an open file take only openFile.mu, or nothing.
package fusefs
