// Package keymgr is the key hierarchy of a volume above its files: the keys of
// the vaults (Provider), the master keys that they wrap, and the keyring that
// holds the wrapped master keys. It decides which keys open a volume and what
// a key's failure means (Class); it does not decide when to ask, when to lock
// or what to tell the operator.
//
//	CreateKeyring   makes the keys of a new volume
//	LoadKeyring     reads a keyring; needs no key; for listings
//	OpenKeyring     unwraps the master keys, and refuses what is not authentic
//	MasterKeys      the keys in memory: wraps file keys, derives volume keys,
//	                and changes the keyring (AddKey, RemoveKey, Rewrap,
//	                RotateMasterKey, RetireMasterKey)
//
// # Invariants
//
// A Keyring never changes once it is made. Every change makes the next
// generation, proves each new wrap by unwrapping it again, is written by one
// atomic replacement, and only then takes effect in memory; on any error the
// old generation stays in effect, and the disk holds the old or the new one,
// both of which open the volume. The parser accepts only the exact bytes that
// the encoder writes, and the encoder writes only what the parser accepts.
//
// Master keys and the volume secret live in crypto.Key memory alone. The one
// moment in which a master key is elsewhere is during a provider's call; the
// slice that goes in or comes out is zeroed right after it.
//
// # What is refused, and how it is noticed
//
// The keyring of another volume: by its volume field, before a vault is asked.
//
// Any edit: by the MAC, made over every byte of the file with a key derived
// from the active master key. An edited wrap mostly fails sooner: the vault
// refuses the ciphertext (class Mismatch) or does not know the version
// (Revoked), or what it gives back fails the master key's check value.
//
// A vault that answers with another 32 bytes, out of malice or because a key of
// that name has other material: by the check value, and if that was edited to
// agree, by the MAC. A vault's wrap has no associated data, so the volume is
// bound by these two and not by the ciphertext.
//
// A weaker algorithm: by the parser, which knows RSA-OAEP-256 and A256KW alone.
//
// An older keyring put back (keyring.json.prev): it is authentic, and nothing
// on the same disk can tell. MinGeneration refuses it where the caller keeps
// the generation elsewhere. It brings back only wraps that still need their
// vault to agree, and RemoveKey and RetireMasterKey leave no such copy behind.
//
// A keyring made wholly by someone else for this volume's UUID, with their own
// master key under a vault key that this host may use: it is consistent, but
// its keys authenticate nothing that the volume holds, journal, names or files.
// The open function given to OpenKeyring may refuse keys that the operator did
// not name, which stops it here.
//
// # Locks
//
// MasterKeys.edit serialises changes and is held over the vault's answers;
// MasterKeys.mu guards the keys in memory and is held briefly. Order: edit,
// mu. File keys are wrapped and unwrapped under mu alone, so a slow vault
// never delays a file. Between processes the volume's own lock decides who may
// change the keyring; ErrConflict is the belt to it.
package keymgr

// KeyringFile is the keyring's name in a volume's metadata.
const KeyringFile = "keyring.json"

// Storage holds a volume's metadata files. Names are single path elements.
type Storage interface {
	// ReadFile returns the content; an error that matches fs.ErrNotExist if
	// there is no such file.
	ReadFile(name string) ([]byte, error)
	// ReplaceFile makes data the file's content, durably: write elsewhere,
	// fsync, rename, fsync of the directory. After an error or a crash the
	// file holds the old content or the new, whole. The old content is kept
	// under name + ".prev".
	ReplaceFile(name string, data []byte) error
}
