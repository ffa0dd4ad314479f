package akv

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/akvfs/akvfs/keymgr"
)

func TestParseVault(t *testing.T) {
	for body, want := range map[string]string{
		`{"error":{"code":"Forbidden","message":"m","innererror":{"code":"KeyDisabled"}}}`:                           "Forbidden KeyDisabled",
		`{"error":{"code":"Forbidden","innerError":{"code":"ForbiddenByRbac"}}}`:                                     "Forbidden ForbiddenByRbac",
		`{"error":{"code":"Forbidden","innererror":{"code":"AccessDenied","innererror":{"code":"KeyNotYetValid"}}}}`: "Forbidden KeyNotYetValid",
		`{"error":{"code":"KeyNotFound","innererror":null}}`:                                                         "KeyNotFound ",
		`{"error":{"code":"BadParameter","innererror":{"code":"BadParameter"}}}`:                                     "BadParameter ",
		`{"error":{"code":"Forbidden","innererror":"text"}}`:                                                         "Forbidden ",
		`{"error":{"code":"two words"}}`:                                                                             " ",
		`{"error":{"code":"` + strings.Repeat("x", 65) + `"}}`:                                                       " ",
		`{"error":"Forbidden"}`: " ",
		`{"code":"Forbidden"}`:  " ",
		`<html>`:                " ",
		``:                      " ",
	} {
		code, inner := parseVault([]byte(body))
		if got := code + " " + inner; got != want {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
	}
}

func TestParseOAuth(t *testing.T) {
	for body, want := range map[string]string{
		`{"error":"invalid_client","error_description":"AADSTS7000222: ...","error_codes":[7000222]}`: "invalid_client AADSTS7000222",
		`{"error":"invalid_request","error_codes":[]}`:                                                "invalid_request ",
		`{"error":"invalid_request","error_codes":[-1]}`:                                              "invalid_request ",
		`{"error":"in valid"}`:   " ",
		`{"error":{"code":"x"}}`: " ",
		`no`:                     " ",
	} {
		code, inner := parseOAuth([]byte(body))
		if got := code + " " + inner; got != want {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	for _, c := range []struct {
		value, date string
		want        time.Duration
	}{
		{"", "", 0},
		{"10", "", 10 * time.Second},
		{"-1", "", 0},
		{"1.5", "", 0},
		{"99999999999999", "", 0},
		{"Mon, 02 Jan 2006 15:04:15 GMT", "Mon, 02 Jan 2006 15:04:05 GMT", 10 * time.Second},
		{"Mon, 02 Jan 2006 15:04:05 GMT", "Mon, 02 Jan 2006 15:04:15 GMT", 0},
		{"Mon, 02 Jan 2006 15:04:15 GMT", "", 0},
	} {
		if got := retryAfter(http.Header{"Retry-After": {c.value}, "Date": {c.date}}); got != c.want {
			t.Errorf("%q at %q: %s", c.value, c.date, got)
		}
	}
}

// FuzzParseAnswer: whatever a body holds, nothing of it gets into the error but
// short words, and every answer has a class.
func FuzzParseAnswer(f *testing.F) {
	f.Add(403, []byte(`{"error":{"code":"Forbidden","message":"m","innererror":{"code":"KeyDisabled"}}}`), "10", "id", false)
	f.Add(401, []byte(`{"error":"invalid_client","error_codes":[7000215]}`), "", "", true)
	f.Add(404, []byte("<html>"), "x", "a b", false)
	f.Fuzz(func(t *testing.T, status int, body []byte, after, id string, tokens bool) {
		h := http.Header{}
		h.Set("Retry-After", after)
		h.Set("X-Ms-Request-Id", id)
		a := parseAnswer(AnswerError{Host: "kv", Request: "get", Status: status}, h, body, tokens)
		for _, w := range []string{a.Code, a.Inner, a.RequestID} {
			if len(w) > 64 || strings.ContainsAny(w, " \r\n\t\"'<>{}\x00\x1b") {
				t.Fatalf("%q", w)
			}
		}
		if a.RetryAfter < 0 || len(a.Error()) > 400 || a.code() == "" {
			t.Fatalf("%+v", a)
		}
		for _, op := range []string{opWrap, opUnwrap, opDescribe} {
			if v := classifyVault(op, a); v.class == 0 || v.code == "" || v.err == nil {
				t.Fatalf("%+v", v)
			}
		}
		if v := classifyToken(&tokenError{seen: exchange{answer: a}}); v.class != keymgr.Credentials && v.class != keymgr.Unreachable {
			t.Fatalf("%+v", v)
		}
	})
}

// TestNetworkCodes: each way in which a connection fails has its code.
func TestNetworkCodes(t *testing.T) {
	op := func(err error) error {
		return &url.Error{Op: "Get", URL: "https://kv1.vault.azure.net/keys/k?api-version=1", Err: &net.OpError{Op: "dial", Net: "tcp", Err: err}}
	}
	for want, err := range map[string]error{
		CodeDNS:     op(&net.DNSError{Err: "no such host", Name: "kv1"}),
		CodeTimeout: op(syscall.ETIMEDOUT),
		CodeRefused: op(syscall.ECONNREFUSED),
		CodeReset:   op(io.EOF),
		CodeNoRoute: op(syscall.ENETUNREACH),
		CodeNetwork: op(errors.New("Bad Gateway")),
		CodeTLS:     &url.Error{Op: "Get", URL: "https://kv1.vault.azure.net/", Err: &net.OpError{Op: "remote error", Err: errors.New("tls: handshake failure")}},
	} {
		v := network(err)
		if v.code != want || v.class != keymgr.Unreachable || !strings.HasPrefix(v.err.Error(), "kv1.vault.azure.net: ") || strings.Contains(v.err.Error(), "api-version") {
			t.Errorf("%s: %+v", want, v)
		}
	}
	if v := network(op(&net.DNSError{Err: "i/o timeout", Name: "kv1", IsTimeout: true})); v.code != CodeDNS {
		t.Errorf("%+v", v)
	}
}
