// Package host does with projects, clusters and their snapshots what takes
// root, for users who have a role in the project.
//
// Types: Service answers on a Unix socket of the run directory, by the methods
// named here; Of says which project, cluster or volume a call is about, and is
// part of each method's parameters. Project is a project as it is shown,
// Snapshot a snapshot. Verify and Prunable are what a service and a command of
// root's have in common.
//
// For each call, in this order: the parameters are read; the project is found
// that they are about; the kernel's word on who calls (SO_PEERCRED and
// SO_PEERGROUPS) gives the role in it, as it is configured at that moment; who
// lacks the role is refused, with a line in the host's audit log and the same
// words whether there is such a project or not. What is done then is done by
// package cluster and those below it, as root, on record with the caller's name.
//
// Invariants, against a caller who would have root do what he cannot:
//   - A caller names no file that is read or written, with one exception: an
//     empty directory of his own, for a new cluster or a restored snapshot. It
//     is opened with his rights, and each directory on the way to it is root's
//     to change alone, so that its path means the same later on.
//   - Directories that are on record are used only where that holds, too.
//   - What could send a project's secret elsewhere, or make another file a
//     secret, is root's to configure (see MayChange).
//   - Only snapshots of the cluster's own volume are shown, proven, deleted or
//     restored, whatever else lies in the directory.
//   - A secret that a caller has typed is in no log, no error and no file but
//     the project's own, and there only once it is proven.
//
// What it never does: it mounts nothing, configures no new project and converts
// no files for others than root, and runs no program.
//
// Locks: none of its own but those of package audit.
package host
