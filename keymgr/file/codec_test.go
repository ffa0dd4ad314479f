package file

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestEditedText makes edits that the encoder never would.
func TestEditedText(t *testing.T) {
	c := &clock{start}
	s := mustCreate(t, c)
	_, err := s.Rotate()
	must(t, err)
	good := string(mustReadFile(t, s.Path()))
	if _, err := parse([]byte(good)); err != nil {
		t.Fatal(err)
	}
	ids := versions(t, s)
	for name, tc := range map[string]struct{ old, new string }{
		"newer format":       {`"format": 1`, `"format": 2`},
		"no format":          {`"format": 1`, `"format": 0`},
		"other about":        {about, "A vault."},
		"other type":         {`"RSA"`, `"EC"`},
		"small key":          {`"size": 2048`, `"size": 1024`},
		"large key":          {`"size": 2048`, `"size": 16384`},
		"odd key":            {`"size": 2048`, `"size": 2049`},
		"unknown member":     {`"type"`, `"extra": 1, "type"`},
		"member twice":       {`"size": 2048,`, `"size": 2048, "size": 2048,`},
		"member's case":      {`"size"`, `"Size"`},
		"null time":          {`"versions"`, `"deleted": null, "versions"`},
		"purged not deleted": {`"versions"`, `"purged": "2026-03-01T12:00:00Z", "versions"`},
		"time with offset":   {`T12:00:00Z`, `T13:00:00+01:00`},
		"time as number":     {`"2026-03-01T12:00:00Z"`, `1`},
		"same id":            {ids[1], ids[0]},
		"short id":           {ids[1], ids[1][1:]},
		"capital id":         {ids[1], strings.Repeat("A", 32)},
		"enabled as text":    {`"enabled": true`, `"enabled": "true"`},
		"no private key":     {`"private_key": "`, `"private_key": "", "x": "`},
		"placeholder as key": {`"private_key": "`, `"private_key": "@", "x": "`},
		"key as a number":    {`"private_key": "`, `"private_key": 1, "x": "`},
		"key as null":        {`"private_key": "`, `"private_key": null, "x": "`},
		"key in an escape":   {`"private_key": "M`, `"private_key": "\u004d`},
		"spaces":             {`  "size"`, `   "size"`},
		"carriage returns":   {good, strings.ReplaceAll(good, "\n", "\r\n")},
		"no versions":        {good, good[:strings.Index(good, `"versions"`)] + "\"versions\": []\n}\n"},
	} {
		edited := strings.Replace(good, tc.old, tc.new, 1)
		if edited == good {
			t.Errorf("%s: the edit changed nothing", name)
		}
		if _, err := parse([]byte(edited)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestSecretLimits(t *testing.T) {
	var s secret
	long := base64.StdEncoding.EncodeToString(make([]byte, maxPrivateKey+3))
	for _, text := range []string{`"` + long + `"`, `"a"`, `"====`, `"`, ``, `{}`, `"AB=="`, `"AA==AA=="`} {
		if err := s.UnmarshalJSON([]byte(text)); err == nil {
			t.Errorf("%.20q: accepted", text)
		}
	}
	if err := s.UnmarshalJSON([]byte(`"AAEC"`)); err != nil || !bytes.Equal(s, []byte{0, 1, 2}) {
		t.Errorf("%v, %v", s, err)
	}
}

// TestEncodeGrowsNothing: the buffer that is zeroed is the only one.
func TestEncodeGrowsNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := randomDocument(t)
		data, err := d.encode()
		if err != nil {
			t.Fatal(err)
		}
		if slack := cap(data) - len(data); slack != len(d.Versions) { // 3 bytes of placeholder, 2 of quotes
			t.Fatalf("%d versions, and %d bytes to spare", len(d.Versions), slack)
		}
	})
}

func randomDocument(t *rapid.T) *document {
	d := &document{Format: storeFormat, About: about, Type: "RSA", Size: 3072, Created: start}
	for i := range rapid.IntRange(1, 5).Draw(t, "versions") {
		v := version{ID: strings.Repeat("0", 31) + string(rune('0'+i)), Created: start, Updated: start}
		v.Enabled = rapid.Bool().Draw(t, "enabled")
		if rapid.Bool().Draw(t, "expires") {
			v.Expires = start.Add(1)
		}
		v.PrivateKey = rapid.SliceOfN(rapid.Byte(), 1, 200).Draw(t, "key")
		d.Versions = append(d.Versions, v)
	}
	return d
}

// TestRoundTrip: what is written is read back the same.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := randomDocument(t)
		data, err := d.encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := parse(data)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range again.Versions {
			w := d.Versions[i]
			if v.ID != w.ID || v.Enabled != w.Enabled || !v.Expires.Equal(w.Expires) || !bytes.Equal(v.PrivateKey, w.PrivateKey) {
				t.Fatalf("version %d came back as another", i)
			}
		}
		again.wipe()
		for _, v := range again.Versions {
			if !bytes.Equal(v.PrivateKey, make([]byte, len(v.PrivateKey))) {
				t.Fatal("a wiped key is not zero")
			}
		}
	})
}

// FuzzParse: the parser never panics, and what it accepts is what the encoder
// writes.
func FuzzParse(f *testing.F) {
	good := mustReadFile(f, goldenStore)
	deleted := bytes.Replace(good, []byte(`  "versions"`), []byte("  \"deleted\": \"2026-03-01T12:00:00Z\",\n  \"versions\""), 1)
	head, _, _ := bytes.Cut(deleted, []byte(`"versions"`))
	purged := string(head) + "\"purged\": \"2026-03-01T12:00:00Z\",\n  \"versions\": []\n}\n"
	for _, seed := range [][]byte{good, deleted, []byte(purged)} {
		if _, err := parse(seed); err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	f.Add([]byte(`{"versions":[null,{"private_key":"@"}]}`))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		before := bytes.Clone(data)
		d, err := parse(data)
		if !bytes.Equal(data, before) {
			t.Fatal("the parser changed its input")
		}
		if err != nil {
			return
		}
		again, err := d.encode()
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("accepted, and not written the same (%v)", err)
		}
		if d.Purged.IsZero() && d.current(start) == nil {
			t.Fatal("accepted, and has no version")
		}
	})
}
