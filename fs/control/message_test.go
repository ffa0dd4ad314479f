package control

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseRequest(t *testing.T) {
	long := `{"v":1,"method":"status","params":"` + strings.Repeat("a", MaxRequest) + `"}`
	for _, c := range []struct {
		name, line string
		want       any // the error's type, nil for none
	}{
		{"plain", `{"v":1,"method":"status"}`, nil},
		{"parameters", `{"v":1,"method":"key.rotate","params":{"to":"x"}}`, nil},
		{"null parameters", `{"v":1,"method":"status","params":null}`, nil},
		{"dashes", `{"v":1,"method":"master-key.rotate"}`, nil},
		{"empty", ``, &ProtocolError{}},
		{"not JSON", `hello`, &ProtocolError{}},
		{"an array", `[1]`, &ProtocolError{}},
		{"two objects", `{"v":1,"method":"a"}{"v":1,"method":"a"}`, &ProtocolError{}},
		{"no version", `{"method":"status"}`, &ProtocolError{}},
		{"newer version with new fields", `{"v":2,"method":"status","colour":"red"}`, &VersionError{}},
		{"version as text", `{"v":"1","method":"status"}`, &ProtocolError{}},
		{"unknown field", `{"v":1,"method":"status","colour":"red"}`, &ProtocolError{}},
		{"no method", `{"v":1}`, &ProtocolError{}},
		{"method with a slash", `{"v":1,"method":"../status"}`, &ProtocolError{}},
		{"method in capitals", `{"v":1,"method":"Status"}`, &ProtocolError{}},
		{"method ends in a dot", `{"v":1,"method":"key."}`, &ProtocolError{}},
		{"method too long", `{"v":1,"method":"` + strings.Repeat("a", maxMethod+1) + `"}`, &ProtocolError{}},
		{"line too long", long, &ProtocolError{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseRequest([]byte(c.line))
			checkType(t, err, c.want)
		})
	}
}

func TestParseResponse(t *testing.T) {
	for _, c := range []struct {
		name, line string
		want       any
	}{
		{"result", `{"v":1,"result":{"a":1}}`, nil},
		{"null result", `{"v":1,"result":null}`, nil},
		{"event", `{"v":1,"event":{"done":1}}`, nil},
		{"error", `{"v":1,"error":{"code":"failed","message":"m"}}`, nil},
		{"nothing", `{"v":1}`, &ProtocolError{}},
		{"result and error", `{"v":1,"result":1,"error":{"code":"failed","message":"m"}}`, &ProtocolError{}},
		{"error without a code", `{"v":1,"error":{"message":"m"}}`, &ProtocolError{}},
		{"unknown field", `{"v":1,"result":1,"x":1}`, &ProtocolError{}},
		{"newer version", `{"v":9,"answer":1}`, &VersionError{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseResponse([]byte(c.line))
			checkType(t, err, c.want)
		})
	}
}

func checkType(t *testing.T, err error, want any) {
	t.Helper()
	ok := false
	switch want.(type) {
	case nil:
		ok = err == nil
	case *ProtocolError:
		var e *ProtocolError
		ok = errors.As(err, &e)
	case *VersionError:
		var e *VersionError
		ok = errors.As(err, &e)
	}
	if !ok {
		t.Fatalf("error is %T (%v), want %T", err, err, want)
	}
}

func TestDecodeParams(t *testing.T) {
	type params struct {
		To string `json:"to"`
	}
	for _, c := range []struct {
		name, raw string
		into      any
		ok        bool
	}{
		{"none wanted, none given", "", nil, true},
		{"none wanted, empty object", " {} ", nil, true},
		{"none wanted, some given", `{"to":"x"}`, nil, false},
		{"given", `{"to":"x"}`, &params{}, true},
		{"left out", ``, &params{}, true},
		{"unknown", `{"from":"x"}`, &params{}, false},
		{"wrong type", `{"to":1}`, &params{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := DecodeParams(json.RawMessage(c.raw), c.into)
			var wire *Error
			if c.ok && err != nil || !c.ok && (!errors.As(err, &wire) || wire.Code != CodeBadRequest) {
				t.Fatalf("error is %v", err)
			}
		})
	}
}

// What one side writes the other reads, whatever is in it.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		params, err := json.Marshal(map[string]string{"text": text})
		if err != nil {
			t.Fatal(err)
		}
		method := rapid.StringMatching(`[a-z0-9]{1,10}([.-][a-z0-9]{1,10}){0,3}`).Draw(t, "method")
		line := roundTrip(t, Request{V: Version, Method: method, Params: params}, MaxRequest)
		request, err := ParseRequest(line)
		if err != nil || request.Method != method || !bytes.Equal(request.Params, params) {
			t.Fatalf("request came back as %+v, %v", request, err)
		}
		line = roundTrip(t, Response{V: Version, Error: &Error{"failed", text}}, MaxResponse)
		response, err := ParseResponse(line)
		if err != nil || response.Error.Message != strings.ToValidUTF8(text, "\ufffd") {
			t.Fatalf("response came back as %+v, %v", response, err)
		}
	})
}

func roundTrip(t *rapid.T, v any, limit int) []byte {
	var buf bytes.Buffer
	if err := writeLine(&buf, v); err != nil {
		t.Fatal(err)
	}
	line, err := readLine(bufio.NewReader(&buf), limit)
	if err != nil || buf.Len() != 0 {
		t.Fatalf("readLine: %v, %d bytes left", err, buf.Len())
	}
	return line
}

func TestReadLine(t *testing.T) {
	for _, c := range []struct {
		name, in, want string
		err            error
	}{
		{"line", "abc\ndef", "abc", nil},
		{"empty line", "\n", "", nil},
		{"as long as may be", strings.Repeat("x", 100) + "\n", strings.Repeat("x", 100), nil},
		{"end at once", "", "", io.EOF},
		{"end in the line", "abc", "", io.ErrUnexpectedEOF},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := readLine(bufio.NewReaderSize(strings.NewReader(c.in), 16), 100)
			if string(got) != c.want || !errors.Is(err, c.err) {
				t.Fatalf("got %q, %v", got, err)
			}
		})
	}
	_, err := readLine(bufio.NewReaderSize(strings.NewReader(strings.Repeat("x", 101)+"\n"), 16), 100)
	checkType(t, err, &ProtocolError{})
}

func FuzzParseRequest(f *testing.F) {
	for _, seed := range []string{`{"v":1,"method":"status"}`, `{"v":2}`, `{"v":1,"method":"key.rotate","params":{"to":[1,{}]}}`, `[]`, "\x00"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := ParseRequest(line)
		if err != nil {
			return
		}
		if r.V != Version || !validMethod(r.Method) {
			t.Fatalf("accepted %+v", r)
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := ParseRequest(again); len(again) <= MaxRequest && (err != nil || back.Method != r.Method) {
			t.Fatalf("%q does not come back: %v", again, err)
		}
	})
}

func FuzzParseResponse(f *testing.F) {
	for _, seed := range []string{`{"v":1,"result":{}}`, `{"v":1,"event":1}`, `{"v":1,"error":{"code":"a","message":"b"}}`, `{"v":1,"result":null}`, `{}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := ParseResponse(line)
		if err != nil {
			return
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseResponse(again); len(again) <= MaxResponse && err != nil {
			t.Fatalf("%q does not come back: %v", again, err)
		}
	})
}

func FuzzParseRecord(f *testing.F) {
	f.Add([]byte(`{"v":1,"volume":"x","backing":"/a","mountpoint":"/b","pid":3,"started":"2026-01-02T03:04:05Z"}`))
	f.Add([]byte(`{"v":1,"pid":-1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseRecord(data)
		if err == nil && (r.V != Version || r.PID <= 0 || r.Backing[0] != '/' || r.Mountpoint[0] != '/') {
			t.Fatalf("accepted %+v", r)
		}
	})
}
