// Package confdir keeps named entries of configuration in a directory that
// people and configuration management write to as well: CONFIG/KIND/NAME/FILE,
// such as /etc/akvfs/projects/acme/project.toml.
//
// Types: Dir is one kind of entries. NameError, UnsafeError, BusyError and
// NoEntryError carry what is wrong with one of them.
//
// Invariants:
//   - A name is a word that is safe in a path, a unit's name and a log.
//   - A file is replaced atomically and durably; it is its owner's alone.
//   - What somebody other than root and this process's user could have
//     written is refused, and so are links.
//
// The package does not know what is in a file, and holds no secret: callers
// zero what they read.
//
// Lock serialises changes of one entry, between processes; readers need none.
package confdir
