package volume

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"os"
	"path"
	"strings"
	"syscall"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/store"
)

const (
	nameMax = 255 // bytes, plain or encrypted
	// LongMark starts the backing name of an entry whose encrypted name is
	// longer than a name may be. It is no character of an encrypted name.
	LongMark = "@"
	// LongSuffix ends the name of the file beside it that holds the whole
	// encrypted name.
	LongSuffix = ".name"
	maxPath    = 4096
	// namesCached is how many names are kept with their encryption.
	namesCached = 4096
)

// names translates between the tree's names and the backing directory's.
// Encrypted names are deterministic within a volume. A name whose encryption
// is longer than 255 bytes is stored as "@" and the hash of the encryption,
// with a file beside the entry that holds the encryption.
type names struct {
	st     store.FS
	brief  bool               // see Options
	cipher *crypto.NameCipher // nil for plain names
	cache  *lru.Cache[string, string]
}

func newNames(st store.FS, info Info, keys Keys, brief bool) (*names, error) {
	n := &names{st: st, brief: brief}
	if err := n.take(info, keys); err != nil || n.cipher == nil {
		return n, err
	}
	var err error
	n.cache, err = lru.New[string, string](namesCached)
	return n, err
}

// take makes the cipher from the volume's keys, also in place of one that drop
// has destroyed.
func (n *names) take(info Info, keys Keys) error {
	if info.Names == NamesPlain {
		return nil
	}
	key, err := keys.VolumeKey("names")
	if err != nil {
		return err
	}
	defer key.Destroy()
	cipher, err := crypto.NewNameCipher(key)
	if err != nil {
		return err
	}
	if n.brief {
		cipher.Brief()
	}
	n.cipher = cipher
	return nil
}

// drop destroys the cipher and forgets every name.
func (n *names) drop() {
	if n.cipher == nil {
		return
	}
	n.cipher.Destroy()
	n.cache.Purge()
}

// backing translates a path. The metadata directory is ENOENT.
func (n *names) backing(name string) (string, error) {
	if name == "." || name == "" {
		return ".", nil
	}
	if len(name) >= maxPath {
		return "", syscall.ENAMETOOLONG
	}
	if n.cipher == nil {
		if first, _, _ := strings.Cut(name, "/"); first == MetaDir {
			return "", syscall.ENOENT
		}
		return name, nil
	}
	parts := strings.Split(name, "/")
	for i, p := range parts {
		if len(p) > nameMax {
			return "", syscall.ENAMETOOLONG
		}
		parts[i] = n.element(p)
	}
	return strings.Join(parts, "/"), nil
}

// element translates one name.
func (n *names) element(name string) string {
	if e, ok := n.cache.Get(name); ok {
		return e
	}
	e := n.cipher.Encrypt(name)
	if len(e) > nameMax {
		e = longName(e)
	}
	n.cache.Add(name, e)
	return e
}

func longName(encrypted string) string {
	h := sha256.Sum256([]byte(encrypted))
	return LongMark + base64.RawURLEncoding.EncodeToString(h[:])
}

// plain translates one entry of a backing directory. ok is false for what is
// no entry of the tree.
func (n *names) plain(dir, name string) (plain string, ok bool, err error) {
	if n.cipher == nil {
		return name, dir != "." || name != MetaDir, nil
	}
	if dir == "." && (name == MetaDir || name == "lost+found") || strings.HasSuffix(name, LongSuffix) {
		return "", false, nil
	}
	if strings.HasPrefix(name, LongMark) {
		if name, err = n.readLong(dir, name); err != nil {
			return "", false, err
		}
	}
	plain, err = n.cipher.Decrypt(name)
	return plain, err == nil, err
}

func (n *names) readLong(dir, name string) (string, error) {
	f, err := n.st.OpenFile(path.Join(dir, name+LongSuffix), os.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	buf := make([]byte, 2*nameMax)
	k, err := f.ReadAt(buf, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	if encrypted := string(buf[:k]); longName(encrypted) == name {
		return encrypted, nil
	}
	return "", errors.New("long name does not match its entry")
}

// holdsName reports whether a backing file is no file of the tree, but holds
// the name of one.
func (n *names) holdsName(backing string) bool {
	return n.cipher != nil && strings.HasSuffix(backing, LongSuffix)
}

// isLong reports whether the entry of a backing path needs a file for its name.
func isLong(backing string) bool { return strings.HasPrefix(path.Base(backing), LongMark) }

// prepare makes the file for a long name, durable, before its entry is made.
func (n *names) prepare(name, backing string) error {
	if n.cipher == nil || !isLong(backing) {
		return nil
	}
	encrypted := n.cipher.Encrypt(path.Base(name))
	if have, err := n.readLong(path.Dir(backing), path.Base(backing)); err == nil && have == encrypted {
		return nil
	}
	if err := n.st.Unlink(backing + LongSuffix); err != nil && !errors.Is(err, syscall.ENOENT) {
		return err
	}
	err := writeNew(n.st, backing+LongSuffix, []byte(encrypted))
	if errors.Is(err, syscall.EEXIST) { // another one made it meanwhile
		return nil
	}
	return err
}

// release removes the file for a long name once its entry is gone.
func (n *names) release(backing string) {
	if n.cipher == nil || !isLong(backing) {
		return
	}
	if _, err := n.st.Stat(backing); errors.Is(err, syscall.ENOENT) {
		n.st.Unlink(backing + LongSuffix) // an orphan is harmless, and fsck removes it
	}
}

// sweep removes from a directory the files for long names whose entries are
// gone, which a crash or a failure may leave, and reports whether there were any.
func (n *names) sweep(dir string) (swept bool) {
	entries, err := n.st.ReadDir(dir)
	if err != nil || n.cipher == nil {
		return false
	}
	for _, e := range entries {
		entry, holds := strings.CutSuffix(path.Join(dir, e.Name), LongSuffix)
		if holds && isLong(entry) {
			n.release(entry)
			swept = true
		}
	}
	return swept
}

// TreeName is the name in the tree of a path in the backing directory; ok is
// false where that does not open.
func (v *Volume) TreeName(backing string) (name string, ok bool) {
	dir := "."
	for _, element := range strings.Split(backing, "/") {
		plain, ok, err := v.names.plain(dir, element)
		if !ok || err != nil {
			return "", false
		}
		dir, name = path.Join(dir, element), path.Join(name, plain)
	}
	return name, true
}
