package keymgr

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/akvfs/akvfs/crypto"
)

// newTestKeyring makes a keyring with two master keys under two vaults.
func newTestKeyring(t testing.TB, st Storage, vs vaults) {
	t.Helper()
	keys, err := createKeyring(t.Context(), st, testVolume, testClock, vs.providers())
	if err != nil {
		t.Fatal(err)
	}
	defer keys.Destroy()
	if _, err := keys.RotateMasterKey(t.Context(), vs.providers()...); err != nil {
		t.Fatal(err)
	}
}

func mustRead(t testing.TB, st Storage) []byte {
	t.Helper()
	data, err := st.ReadFile(KeyringFile)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// openBytes opens a volume whose keyring has these bytes.
func openBytes(t testing.TB, data []byte, vs vaults) error {
	t.Helper()
	st := newMemory()
	st.files[KeyringFile] = data
	keys, err := OpenKeyring(t.Context(), st, testVolume, vs.open)
	if err == nil {
		keys.Destroy()
	}
	return err
}

// TestEveryByteCounts changes, drops and inserts at each byte of the file.
func TestEveryByteCounts(t *testing.T) {
	vs := vaults{newVault("a")}
	st := newMemory()
	newTestKeyring(t, st, vs)
	data := mustRead(t, st)
	if err := openBytes(t, data, vs); err != nil {
		t.Fatalf("unchanged: %v", err)
	}
	for i := range data {
		edits := map[string][]byte{
			"flipped":   slices.Concat(data[:i], []byte{data[i] ^ 1}, data[i+1:]),
			"dropped":   slices.Concat(data[:i], data[i+1:]),
			"spaced":    slices.Concat(data[:i], []byte(" "), data[i:]),
			"cut":       slices.Clone(data[:i]),
			"case":      slices.Concat(data[:i], []byte{data[i] ^ 0x20}, data[i+1:]),
			"escaped":   slices.Concat(data[:i], fmt.Appendf(nil, `\u%04x`, data[i]), data[i+1:]),
			"high byte": slices.Concat(data[:i], []byte{data[i] | 0x80}, data[i+1:]),
		}
		for name, edit := range edits {
			if err := openBytes(t, edit, vs); err == nil {
				t.Errorf("byte %d (%q) %s: the volume opened", i, data[i], name)
			}
		}
	}
	for _, tail := range []string{" ", "\n", "{}", "\x00"} {
		if err := openBytes(t, slices.Concat(data, []byte(tail)), vs); err == nil {
			t.Errorf("with %q after the end: the volume opened", tail)
		}
	}
}

// wantIntegrity and wantClass are what an edit must lead to.
func wantIntegrity(err error) bool {
	_, ok := errors.AsType[*IntegrityError](err)
	return ok
}

func wantClass(c Class) func(error) bool {
	return func(err error) bool {
		ke, ok := errors.AsType[*KeyError](err)
		return ok && ke.Class == c && !wantIntegrity(err)
	}
}

var otherMasterKey = MasterKeyID{1}

func flip(b []byte)              { b[len(b)-1] ^= 1 }
func wrap(d *document) *Wrap     { return &d.active().Wraps[0] }
func old(d *document) *MasterKey { return &d.MasterKeys[1] }

// fieldEdits edit each field of a keyring with two master keys under two
// vaults, and say what opening it must lead to.
var fieldEdits = map[string]struct {
	edit func(d *document)
	want func(error) bool
}{
	"generation":             {func(d *document) { d.Generation++ }, wantIntegrity},
	"created":                {func(d *document) { d.Created = d.Created.Add(time.Second) }, wantIntegrity},
	"modified":               {func(d *document) { d.Modified = d.Modified.Add(time.Second) }, wantIntegrity},
	"volume":                 {func(d *document) { d.Volume = otherVolume }, wantIntegrity},
	"no volume":              {func(d *document) { d.Volume = uuid.Nil }, wantIntegrity},
	"volume secret":          {func(d *document) { flip(d.VolumeSecret) }, wantIntegrity},
	"mac":                    {func(d *document) { flip(d.MAC) }, wantIntegrity},
	"no mac":                 {func(d *document) { d.MAC = nil }, wantIntegrity},
	"short mac":              {func(d *document) { d.MAC = d.MAC[:16] }, wantIntegrity},
	"id of active":           {func(d *document) { d.active().ID = otherMasterKey }, wantIntegrity},
	"id of old":              {func(d *document) { old(d).ID = otherMasterKey }, wantIntegrity},
	"same ids":               {func(d *document) { old(d).ID = d.active().ID }, wantIntegrity},
	"created of master key":  {func(d *document) { d.active().Created = testTime.Add(-time.Hour) }, wantIntegrity},
	"created of old":         {func(d *document) { old(d).Created = testTime.Add(-time.Hour) }, wantIntegrity},
	"check":                  {func(d *document) { flip(d.active().Check) }, wantIntegrity},
	"check of old":           {func(d *document) { flip(old(d).Check) }, wantIntegrity},
	"two active":             {func(d *document) { old(d).Active = true }, wantIntegrity},
	"none active":            {func(d *document) { d.active().Active = false }, wantIntegrity},
	"other active":           {func(d *document) { d.active().Active = false; d.MasterKeys[1].Active = true }, wantIntegrity},
	"order of master keys":   {func(d *document) { slices.Reverse(d.MasterKeys) }, wantIntegrity},
	"old dropped":            {func(d *document) { d.MasterKeys = d.MasterKeys[:1] }, wantIntegrity},
	"no master keys":         {func(d *document) { d.MasterKeys = nil }, wantIntegrity},
	"master keys swapped":    {swapMasterWraps, wantIntegrity},
	"order of wraps":         {func(d *document) { slices.Reverse(d.active().Wraps) }, wantIntegrity},
	"wrap dropped":           {func(d *document) { d.active().Wraps = d.active().Wraps[:1] }, wantIntegrity},
	"no wraps":               {func(d *document) { d.active().Wraps = nil }, wantIntegrity},
	"wrap twice":             {func(d *document) { d.active().Wraps[1] = d.active().Wraps[0] }, wantIntegrity},
	"ciphertexts swapped":    {swapCiphertexts, wantIntegrity},
	"aki and key swapped":    {swapIdentifiers, wantIntegrity},
	"aki to another vault":   {func(d *document) { wrap(d).AKI = "test://b/key" }, wantIntegrity},
	"aki unknown":            {func(d *document) { wrap(d).AKI = "test://evil/key" }, wantIntegrity},
	"key id":                 {func(d *document) { wrap(d).KeyID = "test://evil/key" }, wantIntegrity},
	"version":                {func(d *document) { wrap(d).Version = "v9" }, wantIntegrity},
	"provider":               {func(d *document) { wrap(d).Provider = "akv" }, wantIntegrity},
	"operation":              {func(d *document) { wrap(d).Operation = OpEncrypt }, wantIntegrity},
	"no operation":           {func(d *document) { wrap(d).Operation = "sign" }, wantIntegrity},
	"algorithm":              {func(d *document) { wrap(d).Algorithm = AlgA256KW }, wantIntegrity},
	"algorithm downgraded":   {func(d *document) { wrap(d).Algorithm = "RSA1_5" }, wantIntegrity},
	"algorithm with SHA-1":   {func(d *document) { wrap(d).Algorithm = "RSA-OAEP" }, wantIntegrity},
	"ciphertext":             {func(d *document) { flip(wrap(d).Ciphertext) }, wantIntegrity},
	"ciphertext short":       {func(d *document) { wrap(d).Ciphertext = make([]byte, 31) }, wantIntegrity},
	"ciphertext long":        {func(d *document) { wrap(d).Ciphertext = make([]byte, maxCiphertext+1) }, wantIntegrity},
	"created of wrap":        {func(d *document) { wrap(d).Created = testTime.Add(time.Hour) }, wantIntegrity},
	"text with a space":      {func(d *document) { wrap(d).Version = "v 1" }, wantIntegrity},
	"text with a line break": {func(d *document) { wrap(d).AKI += "\n" }, wantIntegrity},
	"text without end":       {func(d *document) { wrap(d).AKI += strings.Repeat("x", maxKeyIDLen) }, wantIntegrity},
	"fraction of a second":   {func(d *document) { d.Created = d.Created.Add(time.Millisecond) }, wantIntegrity},
	"local time":             {func(d *document) { d.Created = d.Created.In(time.FixedZone("", 3600)) }, wantIntegrity},
	"generation zero":        {func(d *document) { d.Generation = 0 }, wantIntegrity},
	"generation huge":        {func(d *document) { d.Generation = maxGeneration + 1 }, wantIntegrity},
	"format zero":            {func(d *document) { d.Format = 0 }, wantIntegrity},
	"format negative":        {func(d *document) { d.Format = -1 }, wantIntegrity},
	"both versions unknown":  {func(d *document) { eachWrap(d, func(w *Wrap) { w.Version = "v9" }) }, wantClass(Revoked)},
	"both vaults unknown":    {func(d *document) { eachWrap(d, func(w *Wrap) { w.AKI += "x" }) }, wantClass(Invalid)},
	"both ciphertexts":       {func(d *document) { eachWrap(d, func(w *Wrap) { flip(w.Ciphertext) }) }, wantIntegrity},
	"both key ids":           {func(d *document) { eachWrap(d, func(w *Wrap) { w.KeyID += "x" }) }, wantIntegrity},
	"both algorithms":        {func(d *document) { eachWrap(d, func(w *Wrap) { w.Algorithm = AlgA256KW }) }, wantIntegrity},
}

// TestEditedFields edits each field and writes it in the proper form, as
// someone who knows the format and lacks the keys can.
func TestEditedFields(t *testing.T) {
	vs := vaults{newVault("a"), newVault("b")}
	st := newMemory()
	newTestKeyring(t, st, vs)
	genuine := mustRead(t, st)
	kr, err := ParseKeyring(genuine)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range fieldEdits {
		t.Run(name, func(t *testing.T) {
			d := kr.doc.clone()
			tc.edit(&d)
			data, err := d.encode()
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Equal(data, genuine) {
				t.Fatal("the edit changed nothing")
			}
			err = openBytes(t, data, vs)
			if err == nil || !tc.want(err) {
				t.Errorf("opened with %v", err)
			}
		})
	}
}

func eachWrap(d *document, f func(*Wrap)) {
	for i := range d.MasterKeys {
		for j := range d.MasterKeys[i].Wraps {
			f(&d.MasterKeys[i].Wraps[j])
		}
	}
}

// swapMasterWraps gives each master key the other's wraps and check value.
func swapMasterWraps(d *document) {
	a, b := &d.MasterKeys[0], &d.MasterKeys[1]
	a.Wraps, b.Wraps = b.Wraps, a.Wraps
	a.Check, b.Check = b.Check, a.Check
}

func swapCiphertexts(d *document) {
	w := d.active().Wraps
	w[0].Ciphertext, w[1].Ciphertext = w[1].Ciphertext, w[0].Ciphertext
}

func swapIdentifiers(d *document) {
	w := d.active().Wraps
	w[0].AKI, w[1].AKI = w[1].AKI, w[0].AKI
	w[0].KeyID, w[1].KeyID = w[1].KeyID, w[0].KeyID
}

// TestEditedText makes edits that the encoder never would.
func TestEditedText(t *testing.T) {
	vs := vaults{newVault("a")}
	st := newMemory()
	newTestKeyring(t, st, vs)
	good := string(mustRead(t, st))
	tests := map[string]struct{ old, new string }{
		"unknown member":        {`"generation"`, `"extra": 1, "generation"`},
		"unknown in master key": {`"check"`, `"extra": 1, "check"`},
		"unknown in wrap":       {`"version"`, `"extra": null, "version"`},
		"member twice":          {`"generation": 2,`, `"generation": 2, "generation": 2,`},
		"member twice, differs": {`"generation": 2,`, `"generation": 1, "generation": 2,`},
		"member's case":         {`"generation"`, `"Generation"`},
		"number's form":         {`"generation": 2`, `"generation": 2e0`},
		"string for number":     {`"generation": 2`, `"generation": "2"`},
		"null":                  {`"generation": 2`, `"generation": null`},
		"volume in braces":      {testVolume.String(), "{" + testVolume.String() + "}"},
		"volume as URN":         {testVolume.String(), "urn:uuid:" + testVolume.String()},
		"volume in capitals":    {testVolume.String(), strings.ToUpper(testVolume.String())},
		"time with offset":      {`T12:00:00Z`, `T12:00:00+00:00`},
		"URL-safe base64":       {`"mac": "`, `"mac": "_`},
		"base64 with newline":   {`"mac": "`, `"mac": "\n`},
		"format as a string":    {`"format": 1`, `"format": "1"`},
		"an array":              {good, "[" + good + "]"},
		"empty object":          {good, "{}\n"},
		"empty":                 {good, ""},
		"null document":         {good, "null\n"},
		"byte order mark":       {good, "\ufeff" + good},
		"carriage returns":      {good, strings.ReplaceAll(good, "\n", "\r\n")},
		"too large":             {good, strings.Repeat(" ", maxKeyringSize) + good},
		"deep":                  {good, strings.Repeat("[", maxKeyringSize)},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			edited := strings.Replace(good, tc.old, tc.new, 1)
			if edited == good {
				t.Fatal("the edit changed nothing")
			}
			if err := openBytes(t, []byte(edited), vs); !wantIntegrity(err) {
				t.Errorf("opened with %v", err)
			}
		})
	}
	newer := strings.Replace(good, `"format": 1`, `"format": 2, "more": {}`, 1)
	if _, ok := errors.AsType[*NewerFormatError](openBytes(t, []byte(newer), vs)); !ok {
		t.Error("a newer format is not called that")
	}
}

// TestForeignKeyring copies a keyring of another volume in, as it is and with
// its volume edited.
func TestForeignKeyring(t *testing.T) {
	vs := vaults{newVault("a")}
	foreign := newMemory()
	keys, err := CreateKeyring(t.Context(), foreign, otherVolume, vs.providers()...)
	if err != nil {
		t.Fatal(err)
	}
	keys.Destroy()
	data := mustRead(t, foreign)
	vs[0].calls = 0
	if err := openBytes(t, data, vs); !wantIntegrity(err) || !strings.Contains(err.Error(), otherVolume.String()) {
		t.Errorf("foreign: %v", err)
	}
	if vs[0].calls != 0 {
		t.Error("the vault was asked about a foreign keyring")
	}
	edited := bytes.Replace(data, []byte(otherVolume.String()), []byte(testVolume.String()), 1)
	if err := openBytes(t, edited, vs); !wantIntegrity(err) {
		t.Errorf("foreign and edited: %v", err)
	}
}

// TestSpliced puts parts of another authentic keyring under the same vault
// into ours: nothing of it may be accepted.
func TestSpliced(t *testing.T) {
	vs := vaults{newVault("a")}
	ours, theirs := newMemory(), newMemory()
	newTestKeyring(t, ours, vs)
	newTestKeyring(t, theirs, vs)
	a, _ := ParseKeyring(mustRead(t, ours))
	b, _ := ParseKeyring(mustRead(t, theirs))
	for name, splice := range map[string]func(d *document, from document){
		"volume secret":       func(d *document, from document) { d.VolumeSecret = from.VolumeSecret },
		"mac":                 func(d *document, from document) { d.MAC = from.MAC },
		"active master key":   func(d *document, from document) { d.MasterKeys[0] = from.MasterKeys[0] },
		"old master key":      func(d *document, from document) { d.MasterKeys[1] = from.MasterKeys[1] },
		"one more master key": func(d *document, from document) { d.MasterKeys = append(d.MasterKeys, from.MasterKeys[1]) },
		"wrap":                func(d *document, from document) { d.MasterKeys[0].Wraps = from.MasterKeys[0].Wraps },
		"wrap and check": func(d *document, from document) {
			d.MasterKeys[0].Wraps, d.MasterKeys[0].Check = from.MasterKeys[0].Wraps, from.MasterKeys[0].Check
		},
	} {
		d := a.doc.clone()
		splice(&d, b.doc.clone())
		data, err := d.encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := openBytes(t, data, vs); !wantIntegrity(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLyingVault has a vault answer with other bytes than it wrapped.
func TestLyingVault(t *testing.T) {
	lies := map[string]func([]byte) []byte{
		"other bytes": func([]byte) []byte { return bytes.Repeat([]byte{7}, 32) },
		"one bit":     func(b []byte) []byte { b[0] ^= 1; return b },
		"short":       func(b []byte) []byte { return b[:31] },
		"long":        func(b []byte) []byte { return append(b, 0) },
		"nothing":     func([]byte) []byte { return nil },
		"zeros":       func([]byte) []byte { return make([]byte, 32) },
	}
	for name, lie := range lies {
		vs := vaults{newVault("a"), newVault("b")}
		st := newMemory()
		newTestKeyring(t, st, vs)
		data := mustRead(t, st)
		vs[0].lie = lie
		if err := openBytes(t, data, vs); err != nil {
			t.Errorf("%s: the honest second vault was not asked: %v", name, err)
		}
		if err := openBytes(t, data, vs[:1]); !wantIntegrity(err) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := CreateKeyring(t.Context(), newMemory(), testVolume, vs[0]); err == nil {
			t.Errorf("%s: a keyring was made that nothing opens", name)
		}
	}
}

// TestPlaintextIsZeroed: what a vault gave back is zeroed before anyone else
// can see it, whether it was the right key or not.
func TestPlaintextIsZeroed(t *testing.T) {
	for name, change := range map[string]func([]byte) []byte{
		"right": func(b []byte) []byte { return b },
		"wrong": func(b []byte) []byte { b[0] ^= 1; return b },
		"long":  func(b []byte) []byte { return append(b, 1) },
	} {
		vs := vaults{newVault("a")}
		st := newMemory()
		newTestKeyring(t, st, vs)
		var given [][]byte
		vs[0].lie = func(b []byte) []byte {
			b = change(b)
			given = append(given, b)
			return b
		}
		err := openBytes(t, mustRead(t, st), vs)
		if (err == nil) != (name == "right") || len(given) == 0 {
			t.Fatalf("%s: %v after %d answers", name, err, len(given))
		}
		for _, b := range given {
			if !bytes.Equal(b, make([]byte, len(b))) {
				t.Errorf("%s: the vault's answer was left in memory", name)
			}
		}
	}
	keeper := &keepsPlaintext{vault: newVault("a")}
	keys, err := CreateKeyring(t.Context(), newMemory(), testVolume, keeper)
	if err != nil {
		t.Fatal(err)
	}
	keys.Destroy()
	if len(keeper.kept) != 32 || !bytes.Equal(keeper.kept, make([]byte, 32)) {
		t.Errorf("what the vault was given to wrap was left in memory: %x", keeper.kept)
	}
}

// keepsPlaintext remembers the slice that it was given to wrap.
type keepsPlaintext struct {
	*vault
	kept []byte
}

func (k *keepsPlaintext) Wrap(ctx context.Context, plaintext []byte) (Wrapped, error) {
	k.kept = plaintext
	return k.vault.Wrap(ctx, plaintext)
}

// TestLyingVaultWithItsCheck edits the check value to agree with the vault's
// other bytes: the MAC must refuse what is left.
func TestLyingVaultWithItsCheck(t *testing.T) {
	vs := vaults{newVault("a")}
	st := newMemory()
	newTestKeyring(t, st, vs)
	kr, err := LoadKeyring(st)
	if err != nil {
		t.Fatal(err)
	}
	theirs := bytes.Repeat([]byte{7}, 32)
	vs[0].lie = func([]byte) []byte { return bytes.Clone(theirs) }
	key, err := crypto.KeyFromBytes(bytes.Clone(theirs))
	if err != nil {
		t.Fatal(err)
	}
	defer key.Destroy()
	d := kr.doc.clone()
	if d.active().Check, err = checkValue(key, testVolume, d.active().ID); err != nil {
		t.Fatal(err)
	}
	data, err := d.encode()
	if err != nil {
		t.Fatal(err)
	}
	err = openBytes(t, data, vs)
	if !wantIntegrity(err) || !strings.Contains(err.Error(), "authentication code") {
		t.Errorf("got %v", err)
	}
}

// TestRollback puts the previous keyring back.
func TestRollback(t *testing.T) {
	vs := vaults{newVault("a")}
	st := newMemory()
	newTestKeyring(t, st, vs)
	current, err := LoadKeyring(st)
	if err != nil {
		t.Fatal(err)
	}
	st.files[KeyringFile] = st.files[KeyringFile+".prev"]
	if _, err = OpenKeyring(context.Background(), st, testVolume, vs.open, MinGeneration(current.Generation())); !wantIntegrity(err) {
		t.Errorf("with the generation remembered: %v", err)
	}
	keys, err := OpenKeyring(context.Background(), st, testVolume, vs.open)
	if err != nil {
		t.Fatalf("the previous keyring is there to open the volume: %v", err)
	}
	keys.Destroy()
}

// TestProve: another generation is proven by the master keys that both have, an
// edited one refused, and one of other master keys left open.
func TestProve(t *testing.T) {
	vs := vaults{newVault("a")}
	st, other := newMemory(), newMemory()
	newTestKeyring(t, st, vs)
	newTestKeyring(t, other, vs)
	keys, err := OpenKeyring(context.Background(), st, testVolume, vs.open)
	if err != nil {
		t.Fatal(err)
	}
	defer keys.Destroy()
	prev, err := ParseKeyring(st.files[KeyringFile+".prev"])
	if err != nil {
		t.Fatal(err)
	}
	if known, err := keys.Prove(prev); !known || err != nil {
		t.Errorf("the generation before: %v, %v", known, err)
	}
	prev.doc.MAC[3] ^= 1
	if known, err := keys.Prove(prev); !known || !wantIntegrity(err) {
		t.Errorf("an edited one: %v, %v", known, err)
	}
	foreign, err := LoadKeyring(other)
	if err != nil {
		t.Fatal(err)
	}
	if known, err := keys.Prove(foreign); known || err != nil {
		t.Errorf("one of other master keys: %v, %v", known, err)
	}
	foreign.doc.Volume[0] ^= 1
	if known, err := keys.Prove(foreign); !known || !wantIntegrity(err) {
		t.Errorf("one of another volume: %v, %v", known, err)
	}
}
