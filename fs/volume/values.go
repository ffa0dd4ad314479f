package volume

import (
	"encoding/base64"
	"strings"
	"syscall"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/store"
)

// Values of extended attributes and targets of links are sealed under a key
// of the volume: nonce, ciphertext, tag. Attribute names are encrypted when
// file names are, and links are plain when file names are.
const (
	valueOverhead = crypto.NonceSize + crypto.TagSize
	// SealedPrefix starts the backing name of every attribute of the tree.
	SealedPrefix = "user.akvfs."
	maxTarget    = 4095
)

// seal encrypts a value; context says what it is the value of.
func (v *Volume) seal(value []byte, context string) []byte {
	out := make([]byte, crypto.NonceSize, len(value)+valueOverhead)
	v.nonces.Next((*[crypto.NonceSize]byte)(out))
	ad := v.valueAD(context)
	crypto.Secretly(func() { out = v.values.Seal(out, out[:crypto.NonceSize], value, ad) })
	return out
}

// unseal decrypts a value, which is erased when nothing refers to it any more.
func (v *Volume) unseal(sealed []byte, context string) (value []byte, err error) {
	if len(sealed) < valueOverhead {
		return nil, crypto.ErrAuth
	}
	ad := v.valueAD(context)
	crypto.Secretly(func() {
		value, err = v.values.Open(nil, sealed[:crypto.NonceSize], sealed[crypto.NonceSize:], ad)
	})
	return value, err
}

func (v *Volume) valueAD(context string) []byte {
	return append(append(make([]byte, 0, 16+len(context)), v.info.ID[:]...), context...)
}

// sealTarget encrypts a link's target.
func (v *Volume) sealTarget(target string) (string, error) {
	if v.names.cipher == nil {
		return target, nil
	}
	if target == "" {
		return "", syscall.ENOENT
	}
	sealed := base64.RawURLEncoding.EncodeToString(v.seal([]byte(target), "link"))
	if len(sealed) > maxTarget {
		return "", syscall.ENAMETOOLONG
	}
	return sealed, nil
}

// targetSize is the length of a link's target, from that of the backing link.
func (v *Volume) targetSize(backing int64) int64 {
	if v.names.cipher == nil {
		return backing
	}
	return max(0, int64(base64.RawURLEncoding.DecodedLen(int(backing)))-valueOverhead)
}

// Readlink returns a link's target.
func (v *Volume) Readlink(name string) (string, error) {
	if err := v.gate.look(); err != nil {
		return "", err
	}
	defer v.gate.looked()
	backing, err := v.names.backing(name)
	if err != nil {
		return "", err
	}
	return v.readTarget(backing)
}

// readTarget is a backing link's target, which is erased as unseal's values are.
func (v *Volume) readTarget(backing string) (string, error) {
	sealed, err := v.st.Readlink(backing)
	if err != nil || v.names.cipher == nil {
		return sealed, err
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(sealed)
	if err == nil {
		raw, err = v.unseal(raw, "link")
	}
	if err != nil {
		damage := &IntegrityError{Path: backing, What: "link target", Number: -1, Err: err}
		v.damaged(damage)
		return "", damage
	}
	var target string
	crypto.Secretly(func() { target = string(raw) })
	return target, nil
}

// attrName translates an attribute's name. ACLs stay what they are: like owner
// and mode, which they extend, they are open, and the file system below keeps
// them in accord with the mode and hands them down. Else the system namespace
// is not served.
func (v *Volume) attrName(attr string) (string, error) {
	if store.IsACL(attr) {
		return attr, nil
	}
	space, rest, ok := strings.Cut(attr, ".")
	if !ok || rest == "" || (space != "user" && space != "trusted" && space != "security") {
		return "", syscall.EOPNOTSUPP
	}
	name := attr
	if v.names.cipher != nil {
		name = v.names.cipher.Encrypt(attr)
	}
	if len(SealedPrefix)+len(name) > nameMax {
		return "", syscall.ERANGE
	}
	return SealedPrefix + name, nil
}

// Getxattr returns an attribute's value; ENODATA where there is none.
func (v *Volume) Getxattr(name, attr string) ([]byte, error) {
	if err := v.gate.look(); err != nil {
		return nil, err
	}
	defer v.gate.looked()
	backing, stored, err := v.attrOf(name, attr)
	if err != nil {
		return nil, err
	}
	return v.readAttr(backing, stored, attr)
}

// readAttr is the value of a backing object's attribute, which has a name
// there and one in the tree.
func (v *Volume) readAttr(backing, stored, attr string) ([]byte, error) {
	sealed, err := v.st.Getxattr(backing, stored)
	if err != nil {
		return nil, noAttrs(err)
	}
	if store.IsACL(attr) {
		return sealed, nil
	}
	value, err := v.unseal(sealed, attr)
	if err != nil {
		damage := &IntegrityError{Path: backing, What: "extended attribute", Number: -1, Err: err}
		v.damaged(damage)
		return nil, damage
	}
	return value, nil
}

// noAttrs: an object that can have no attributes below has none.
func noAttrs(err error) error {
	if err != nil && Errno(err) == syscall.EPERM {
		return syscall.ENODATA
	}
	return err
}

func (v *Volume) attrOf(name, attr string) (backing, stored string, err error) {
	if backing, err = v.names.backing(name); err != nil {
		return "", "", err
	}
	if attr == store.ACLAccess {
		backing = v.guarded(backing) // where the mode is
	}
	stored, err = v.attrName(attr)
	return backing, stored, err
}

// Setxattr sets an attribute; flags are XATTR_CREATE or XATTR_REPLACE.
func (v *Volume) Setxattr(name, attr string, value []byte, flags int) error {
	if err := v.gate.change(); err != nil {
		return err
	}
	defer v.gate.changed()
	if v.opts.ReadOnly {
		return syscall.EROFS
	}
	v.tree.RLock()
	defer v.tree.RUnlock()
	backing, stored, err := v.attrOf(name, attr)
	if err != nil {
		return err
	}
	if !store.IsACL(attr) {
		value = v.seal(value, attr)
	}
	return v.st.Setxattr(backing, stored, value, flags)
}

// Removexattr removes an attribute.
func (v *Volume) Removexattr(name, attr string) error {
	if err := v.gate.change(); err != nil {
		return err
	}
	defer v.gate.changed()
	if v.opts.ReadOnly {
		return syscall.EROFS
	}
	v.tree.RLock()
	defer v.tree.RUnlock()
	backing, stored, err := v.attrOf(name, attr)
	if err != nil {
		return err
	}
	return noAttrs(v.st.Removexattr(backing, stored))
}

// Listxattr lists the attributes that the tree's object has.
func (v *Volume) Listxattr(name string) ([]string, error) {
	if err := v.gate.look(); err != nil {
		return nil, err
	}
	defer v.gate.looked()
	backing, err := v.names.backing(name)
	if err != nil {
		return nil, err
	}
	stored, err := v.st.Listxattr(backing)
	if err != nil {
		return nil, err
	}
	attrs := v.listACLs(backing, stored)
	for _, s := range stored {
		attr, ours := strings.CutPrefix(s, SealedPrefix)
		if !ours {
			continue
		}
		if v.names.cipher != nil {
			if attr, err = v.names.cipher.Decrypt(attr); err != nil {
				v.damaged(&IntegrityError{Path: backing, What: "attribute name", Number: -1, Err: err})
				continue
			}
		}
		attrs = append(attrs, attr)
	}
	return attrs, nil
}

// listACLs are the ACLs among the attributes of a backing object.
func (v *Volume) listACLs(backing string, stored []string) (acls []string) {
	for _, attr := range stored {
		if attr == store.ACLDefault || attr == store.ACLAccess && v.guarded(backing) == backing {
			acls = append(acls, attr)
		}
	}
	if guarded := v.guarded(backing); guarded != backing {
		if _, err := v.st.Getxattr(guarded, store.ACLAccess); err == nil {
			acls = append(acls, store.ACLAccess)
		}
	}
	return acls
}
