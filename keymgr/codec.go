package keymgr

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/akvfs/akvfs/crypto"
)

// The file is JSON, indented by two spaces, each object's members in the order
// of the struct, one newline at the end. These exact bytes are the only
// encoding of a keyring: the parser encodes what it read and compares. So a
// member that is unknown, twice there, or spelt in another case, other spacing
// and other escapes are all refused, and "every byte of the file" is a
// canonical input for the MAC:
//
//	mac = HMAC-SHA256(HKDF(active master key, "keyring-mac"), file)
//
// where file is the file's bytes with the value of "mac" the empty string.
const (
	keyringFormat  = 1
	maxKeyringSize = 256 << 10
	maxMasterKeys  = 8
	maxWraps       = 8
	maxCiphertext  = 1 << 10 // an RSA-4096 key makes 512
	maxKeyIDLen    = 1 << 10
	maxVersionLen  = 128
	maxGeneration  = 1 << 53 // exact in every JSON reader
	macSize        = sha256.Size
)

// ParseKeyring reads a keyring's bytes. It needs no key, and so cannot tell
// whether they are authentic. Errors: *IntegrityError, *NewerFormatError.
func ParseKeyring(data []byte) (*Keyring, error) {
	bad := func(format string, a ...any) (*Keyring, error) {
		return nil, &IntegrityError{File: KeyringFile, Reason: fmt.Sprintf(format, a...)}
	}
	if len(data) > maxKeyringSize {
		return bad("it has %d bytes, more than the %d of the largest keyring", len(data), maxKeyringSize)
	}
	var head struct{ Format int }
	if err := json.Unmarshal(data, &head); err != nil {
		return bad("it is not JSON of a keyring: %v", err)
	}
	if head.Format > keyringFormat {
		return nil, &NewerFormatError{File: KeyringFile, Format: head.Format, Known: keyringFormat}
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var d document
	if err := dec.Decode(&d); err != nil {
		return bad("%v", err)
	}
	if err := d.validate(); err != nil {
		return bad("%v", err)
	}
	again, err := d.encode()
	if err != nil {
		return bad("%v", err)
	}
	if !bytes.Equal(again, data) {
		return bad("it is not in the form that akvfs writes; it was edited")
	}
	return &Keyring{doc: d, raw: again}, nil
}

// encode is the file's bytes.
func (d document) encode() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(d); err != nil {
		return nil, err
	}
	if b.Len() > maxKeyringSize {
		return nil, fmt.Errorf("the keyring would have %d bytes, more than %d", b.Len(), maxKeyringSize)
	}
	return b.Bytes(), nil
}

// seal computes the MAC under the active master key and makes the Keyring. It
// fails rather than make one that ParseKeyring would refuse; that is the
// caller's fault and no IntegrityError.
func (d document) seal(active *crypto.Key) (*Keyring, error) {
	mac, err := d.computeMAC(active)
	if err != nil {
		return nil, err
	}
	d.MAC = mac
	raw, err := d.encode()
	if err != nil {
		return nil, err
	}
	k, err := ParseKeyring(raw)
	if err != nil {
		return nil, fmt.Errorf("this keyring cannot be written: %v", err)
	}
	return k, nil
}

// computeMAC is the MAC that d should have.
func (d document) computeMAC(active *crypto.Key) ([]byte, error) {
	d.MAC = []byte{}
	input, err := d.encode()
	if err != nil {
		return nil, err
	}
	return hmacUnder(active, "keyring-mac", input)
}

// hmacUnder is HMAC-SHA256 (RFC 2104) of input under k's key for purpose.
func hmacUnder(k *crypto.Key, purpose string, input []byte) ([]byte, error) {
	sub, err := k.Derive(purpose)
	if err != nil {
		return nil, err
	}
	defer sub.Destroy()
	var sum []byte
	sub.View(func(b []byte) {
		h := hmac.New(sha256.New, b)
		h.Write(input)
		sum = h.Sum(nil)
	})
	return sum, nil
}

// checkValue is MasterKey.Check.
func checkValue(k *crypto.Key, volume uuid.UUID, id MasterKeyID) ([]byte, error) {
	return hmacUnder(k, "master-key-check", append(volume[:], id[:]...))
}

func (d *document) validate() error {
	switch {
	case d.Format != keyringFormat:
		return fmt.Errorf("format %d is none", d.Format)
	case d.Volume == uuid.Nil:
		return errors.New("it names no volume")
	case d.Generation == 0 || d.Generation > maxGeneration:
		return fmt.Errorf("generation %d is out of range", d.Generation)
	case len(d.VolumeSecret) != crypto.WrappedKeySize:
		return fmt.Errorf("volume_secret has %d bytes instead of %d", len(d.VolumeSecret), crypto.WrappedKeySize)
	case len(d.MAC) != macSize:
		return fmt.Errorf("mac has %d bytes instead of %d", len(d.MAC), macSize)
	case len(d.MasterKeys) == 0 || len(d.MasterKeys) > maxMasterKeys:
		return fmt.Errorf("it has %d master keys; 1 to %d are possible", len(d.MasterKeys), maxMasterKeys)
	}
	if err := errors.Join(checkTime("created", d.Created), checkTime("modified", d.Modified)); err != nil {
		return err
	}
	seen := map[MasterKeyID]bool{}
	active := 0
	for i := range d.MasterKeys {
		m := &d.MasterKeys[i]
		if seen[m.ID] {
			return fmt.Errorf("master key %s is there twice", m.ID)
		}
		seen[m.ID] = true
		if m.Active {
			active++
		}
		if err := m.validate(); err != nil {
			return fmt.Errorf("master key %s: %w", m.ID, err)
		}
	}
	if active != 1 {
		return fmt.Errorf("%d master keys are active instead of one", active)
	}
	return nil
}

func (m *MasterKey) validate() error {
	switch {
	case m.ID == MasterKeyID{}:
		return errors.New("it has no id")
	case len(m.Check) != macSize:
		return fmt.Errorf("check has %d bytes instead of %d", len(m.Check), macSize)
	case len(m.Wraps) == 0 || len(m.Wraps) > maxWraps:
		return fmt.Errorf("it has %d wraps; 1 to %d are possible", len(m.Wraps), maxWraps)
	}
	for i := range m.Wraps {
		w := &m.Wraps[i]
		if m.wrapOf(w.KeyID) != i {
			return fmt.Errorf("it is wrapped twice by %q", w.KeyID)
		}
		if err := w.validate(); err != nil {
			return fmt.Errorf("wrap %d: %w", i, err)
		}
	}
	return checkTime("created", m.Created)
}

func (w *Wrap) validate() error {
	for _, f := range []struct {
		name, value string
		limit       int
	}{
		{"provider", w.Provider, maxVersionLen},
		{"aki", w.AKI, maxKeyIDLen},
		{"key_id", w.KeyID, maxKeyIDLen},
		{"version", w.Version, maxVersionLen},
	} {
		if err := checkText(f.name, f.value, f.limit); err != nil {
			return err
		}
	}
	switch {
	case w.Operation != OpWrap && w.Operation != OpEncrypt:
		return fmt.Errorf("operation %q is none", w.Operation)
	case w.Algorithm != AlgRSAOAEP256 && w.Algorithm != AlgA256KW:
		return fmt.Errorf("algorithm %q is not one that akvfs uses", w.Algorithm)
	case len(w.Ciphertext) < crypto.KeySize || len(w.Ciphertext) > maxCiphertext:
		return fmt.Errorf("ciphertext has %d bytes; %d to %d are possible", len(w.Ciphertext), crypto.KeySize, maxCiphertext)
	}
	return checkTime("created", w.Created)
}

// checkText accepts 1 to limit bytes of printable text without spaces, as
// identifiers have.
func checkText(name, s string, limit int) error {
	if s == "" || len(s) > limit {
		return fmt.Errorf("%s has %d bytes; 1 to %d are possible", name, len(s), limit)
	}
	for _, r := range s {
		if r == utf8.RuneError || r == ' ' || !unicode.IsPrint(r) {
			return fmt.Errorf("%s %q holds a character that no identifier has", name, s)
		}
	}
	return nil
}

// checkTime accepts UTC in whole seconds, as stamp makes them.
func checkTime(name string, t time.Time) error {
	if t.Location() != time.UTC || t.Nanosecond() != 0 || t.Year() < 1970 || t.Year() > 9999 {
		return fmt.Errorf("%s %q is not a time in UTC and whole seconds", name, t)
	}
	return nil
}

// stamp is a time as the keyring holds it.
func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }
