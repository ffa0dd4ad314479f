// Package file is the embedded key store: one RSA key, with its versions and
// their states, in one file of this host. It behaves as a key of a vault does
// (wrap and unwrap, encrypt and decrypt, versions, disable, expire, soft
// delete, recover, purge), for demonstrations, tests and hosts without a
// network. It is not a vault: who reads the file has the key, and the private
// key passes through this process's ordinary memory during each call (from
// which it is erased as crypto.Secretly tells).
//
// A Store edits the file; a Provider uses it. Neither keeps anything of it in
// memory: every call reads the file anew, so that a version disabled by
// another process is refused at the next call, as it would be by a vault.
//
// # Identifiers
//
//	file:///abs/path/key.json               the newest usable version
//	file:///abs/path/key.json?version=ID    that version alone
//
// Usable is: enabled, not expired, valid already. A version that is not usable
// neither wraps nor unwraps.
//
// # What a failure means
//
//	KeyDisabled, KeyExpired, KeyNotYetValid, KeyDeleted, KeyVersionNotFound,
//	KeyNotFound (purged)                               Revoked
//	the file may not be read (AccessDenied)            Credentials
//	there is no such file (FileNotFound), or it
//	cannot be read for another reason (ReadFailed)     Unreachable
//	a file that others may read or write, of another
//	owner, or a link (UnsafeFile); a damaged one
//	(DamagedFile); a bad identifier                    Invalid
//	a ciphertext that is not the version's             Mismatch
//
// A missing file is unreachable rather than revoked, because the commonest
// cause is a disk that is not mounted yet, and nobody has taken the key away:
// that is what delete is for, which leaves the file in place, and purge, which
// leaves it without a key.
//
// # Invariants
//
// The file is 0600, a regular file, of the effective user, and replaced
// atomically and durably. Edits exclude each other by a flock on the file's
// directory (readers take none, since they see the old file or the new). The
// parser accepts only the exact bytes that the encoder writes. Times come from
// Options.Now alone.
package file
