package file

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

const (
	storeFormat   = 1
	about         = "akvfs embedded key store. Not a vault: who can read this file has the key."
	maxFileSize   = 1 << 20
	maxVersions   = 128
	maxPrivateKey = 4 << 10 // PKCS #8 of RSA-4096 has 2.4 KiB
	minBits       = 2048
	maxBits       = 4096
)

// document is the file. Its encoding is JSON indented by two spaces, members
// in the order of the structs, absent times left out, a newline at the end;
// the parser accepts no other.
type document struct {
	Format   int       `json:"format"`
	About    string    `json:"about"`
	Type     string    `json:"type"`
	Size     int       `json:"size"` // bits
	Created  time.Time `json:"created"`
	Deleted  time.Time `json:"deleted,omitzero"`
	Purged   time.Time `json:"purged,omitzero"` // then there are no versions
	Versions []version `json:"versions"`        // oldest first
}

type version struct {
	ID         string    `json:"id"`
	Created    time.Time `json:"created"`
	Updated    time.Time `json:"updated"`
	Enabled    bool      `json:"enabled"`
	NotBefore  time.Time `json:"not_before,omitzero"`
	Expires    time.Time `json:"expires,omitzero"` // the first instant at which it is not valid
	PrivateKey secret    `json:"private_key"`      // PKCS #8, base64
}

// secret is bytes that encoding/json must not see, because its buffers are
// pooled and never zeroed: it decodes from the file's own bytes, and encodes
// as a placeholder that encode replaces.
type secret []byte

const placeholder = `"@"` // no base64 has it

func (s secret) MarshalJSON() ([]byte, error) { return []byte(placeholder), nil }

func (s *secret) UnmarshalJSON(b []byte) error {
	if len(b) < 2 || b[0] != '"' || base64.StdEncoding.DecodedLen(len(b)-2) > maxPrivateKey {
		return errors.New("private_key is not a private key")
	}
	der := make([]byte, base64.StdEncoding.DecodedLen(len(b)-2))
	n, err := base64.StdEncoding.Strict().Decode(der, b[1:len(b)-1])
	*s = der[:n]
	if err != nil {
		clear(der)
		return errors.New("private_key is not base64") // the cause would show a part of it
	}
	return nil
}

// wipe zeroes the private keys.
func (d *document) wipe() {
	for i := range d.Versions {
		clear(d.Versions[i].PrivateKey)
	}
}

// parse reads a file. The caller wipes the document. No error text holds any
// of a private key.
func parse(data []byte) (*document, error) {
	if len(data) > maxFileSize {
		return nil, fmt.Errorf("it has more than %d bytes", maxFileSize)
	}
	d := new(document)
	err := decode(data, d)
	if err != nil {
		d.wipe()
		return nil, err
	}
	return d, nil
}

func decode(data []byte, d *document) error {
	if err := json.Unmarshal(data, d); err != nil {
		return fmt.Errorf("it is not JSON of a key store: %w", err)
	}
	if err := d.validate(); err != nil {
		return err
	}
	again, err := d.encode()
	if err != nil {
		return err
	}
	defer clear(again)
	if !bytes.Equal(again, data) {
		return errors.New("it is not in the form that akvfs writes; it was edited")
	}
	return nil
}

// encode is the file's bytes, in one buffer for the caller to zero.
func (d *document) encode() ([]byte, error) {
	var tmpl bytes.Buffer
	enc := json.NewEncoder(&tmpl)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(d); err != nil {
		return nil, err
	}
	parts := bytes.Split(tmpl.Bytes(), []byte(placeholder))
	if len(parts) != len(d.Versions)+1 {
		return nil, errors.New("a member holds what only private keys may")
	}
	size := tmpl.Len()
	for _, v := range d.Versions {
		size += base64.StdEncoding.EncodedLen(len(v.PrivateKey))
	}
	out := make([]byte, 0, size) // never grows: no copy is left behind
	for i, v := range d.Versions {
		out = append(out, parts[i]...)
		out = append(out, '"')
		out = base64.StdEncoding.AppendEncode(out, v.PrivateKey)
		out = append(out, '"')
	}
	return append(out, parts[len(d.Versions)]...), nil
}

func (d *document) validate() error {
	switch {
	case d.Format > storeFormat:
		return fmt.Errorf("it has format %d; this akvfs reads formats up to %d", d.Format, storeFormat)
	case d.Format != storeFormat || d.About != about || d.Type != "RSA":
		return errors.New("it is not a key store")
	case d.Size < minBits || d.Size > maxBits || d.Size%8 != 0:
		return fmt.Errorf("a key of %d bits is not possible", d.Size)
	case len(d.Versions) > maxVersions:
		return fmt.Errorf("it has %d versions, more than %d", len(d.Versions), maxVersions)
	case d.Versions == nil || d.Purged.IsZero() == (len(d.Versions) == 0):
		return errors.New("it has no versions")
	case d.Created.IsZero() || !d.Purged.IsZero() && d.Deleted.IsZero():
		return errors.New("its times make no sense")
	}
	if err := checkTimes(d.Created, d.Deleted, d.Purged); err != nil {
		return err
	}
	seen := map[string]bool{}
	for i := range d.Versions {
		v := &d.Versions[i]
		if seen[v.ID] {
			return fmt.Errorf("version %s is there twice", v.ID)
		}
		seen[v.ID] = true
		if err := v.validate(); err != nil {
			return fmt.Errorf("version %d: %w", i, err)
		}
	}
	return nil
}

func (v *version) validate() error {
	switch {
	case !validVersion(v.ID):
		return fmt.Errorf("its id %q is not 32 hexadecimal digits", v.ID)
	case v.Created.IsZero() || v.Updated.IsZero():
		return errors.New("it has no times")
	case len(v.PrivateKey) == 0 || len(v.PrivateKey) > maxPrivateKey:
		return fmt.Errorf("its private key has %d bytes", len(v.PrivateKey))
	}
	return checkTimes(v.Created, v.Updated, v.NotBefore, v.Expires)
}

// checkTimes accepts UTC, and zero for absent.
func checkTimes(times ...time.Time) error {
	for _, t := range times {
		if !t.IsZero() && (t.Location() != time.UTC || t.Year() < 1970 || t.Year() > 9999) {
			return fmt.Errorf("%q is not a time in UTC", t)
		}
	}
	return nil
}
