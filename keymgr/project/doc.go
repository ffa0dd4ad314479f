// Package project is a project: under which key, in which vault and as whom
// the clusters of one owner are encrypted, and who may do what with them.
//
// Types: Config is what is configured, Store keeps projects on the host,
// Project is one that is there. Prove asks the vault for everything that the
// configuration promises and makes a Report of it, a line for each permission.
// Openers gives key providers that go by the project instead of the
// environment, and take a changed configuration without a restart. Roles say
// which Unix users and groups are owners and viewers.
//
// Invariants:
//   - Nothing is stored that Validate does not accept, and commands store
//     nothing that a Report does not prove.
//   - A configuration and its secret are replaced together: the secret goes to
//     a file of a new name, which the configuration names.
//   - A secret is in a file of its owner's alone, in no field of a type here,
//     and in no error.
//   - A running provider whose configuration became nonsense goes on with the
//     one that it has.
//
// What it never does: it knows no volume, no cluster and no command line.
//
// Locks: live.mu guards the provider in use; no vault is asked with it held.
package project
