package akv

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/akvfs/akvfs/keymgr"
	"github.com/akvfs/akvfs/keymgr/akv/akvtest"
)

// TestHiddenMessage: the value is put where zeros were, and nowhere else.
func TestHiddenMessage(t *testing.T) {
	u, err := url.Parse("https://kv1.vault.azure.net:8443/keys/k/wrapkey?api-version=1")
	must(t, err)
	req := &http.Request{Method: "POST", URL: u, Header: http.Header{"Authorization": {"Bearer t"}, "Content-Length": {"999"}}}
	h := &hidden{seals: true, value: master}
	zeros := base64.RawURLEncoding.EncodeToString(make([]byte, len(master)))
	sent, err := h.message(req, []byte(`{"alg":"A256KW","value":"`+zeros+`"}`))
	must(t, err)
	body := `{"alg":"A256KW","value":"` + base64.RawURLEncoding.EncodeToString(master) + `"}`
	want := "POST /keys/k/wrapkey?api-version=1 HTTP/1.1\r\nHost: kv1.vault.azure.net:8443\r\nContent-Length: 70\r\n" +
		"Connection: close\r\nAuthorization: Bearer t\r\n\r\n" + body
	if string(sent) != want {
		t.Errorf("%q", sent)
	}
	for _, body := range []string{`{}`, `{"value":"` + zeros + `","again":"` + zeros + `"}`} {
		if _, err := h.message(req, []byte(body)); err == nil {
			t.Errorf("%s has a place", body)
		}
	}
}

// TestInterim: answers that are not final are passed over.
func TestInterim(t *testing.T) {
	req := &http.Request{Method: "POST"}
	resp, err := readResponse(strings.NewReader("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"), req)
	if err != nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("%v, %v", resp, err)
	}
	for _, bad := range []string{"", "HTTP/1.1 100 Continue\r\n\r\n", "PRI * HTTP/2.0\r\n\r\n", strings.Repeat("HTTP/1.1 100 \r\n\r\n", mostAnswer/10)} {
		if _, err := readResponse(strings.NewReader(bad), req); err == nil {
			t.Errorf("%.40q was taken", bad)
		}
	}
}

// TestCourierInterrupt: a caller who gives up is answered at once, whatever a
// hidden value is waiting for.
func TestCourierInterrupt(t *testing.T) {
	for name, hang := range map[string]func(c *cloud, p *Provider) (reached func() bool){
		"the vault": func(c *cloud, _ *Provider) func() bool {
			c.Inject(akvtest.Fault{Request: "wrapKey", Delay: time.Hour})
			return func() bool { return c.requestsOf("get") > 0 }
		},
		"a proxy": func(c *cloud, p *Provider) func() bool {
			return hangingProxy(t, c, p)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCloud(t)
			p := c.open(t, budget(time.Hour), func(cfg *Config) { cfg.Dial = c.dialPlain })
			reached := hang(c, p)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() {
				_, err := p.Wrap(ctx, master)
				done <- err
			}()
			for !reached() {
				time.Sleep(time.Millisecond)
			}
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("%v does not match context.Canceled", err)
			} else {
				expect(t, err, keymgr.Unreachable, CodeInterrupted)
			}
		})
	}
}

// hangingProxy has a provider's courier go by a proxy that never answers.
func hangingProxy(t *testing.T, c *cloud, p *Provider) (reached func() bool) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	accepted := make(chan struct{}, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		t.Cleanup(func() { conn.Close() })
		accepted <- struct{}{}
	}()
	p.courier.transport = p.courier.transport.Clone() // not the client's, which gets the key's attributes
	p.courier.transport.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: l.Addr().String()})
	p.Renew()
	return func() bool { return len(accepted) > 0 }
}

// TestCourierEnds: a vault that breaks off its answers is asked again.
func TestCourierEnds(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	p := c.open(t)
	w := mustWrap(t, p)
	c.Inject(akvtest.Fault{Request: "unwrapKey", Reset: true, Times: 2})
	mustUnwrap(t, p, w)
}

// FuzzTake: of what a vault answers, the value and nothing else is taken, and
// what the libraries are given to parse holds none.
func FuzzTake(f *testing.F) {
	f.Add([]byte(`{"kid":"https://kv1.vault.azure.net/keys/k/1","value":"MDEyMw"}`))
	f.Add([]byte(`{"kid":1,"value":"MDEyMw"}`))
	f.Add([]byte(`{"KID":"k","Value":"MDEyMw","value":"MDEyMw=="}`))
	f.Add([]byte(`{"value":"MDEyMw"`))
	f.Fuzz(func(t *testing.T, answer []byte) {
		h := &hidden{}
		rest := h.take(answer)
		var told map[string]string
		if err := json.Unmarshal(rest, &told); err != nil && string(rest) != "withheld" {
			t.Fatalf("%s: %v", rest, err)
		}
		delete(told, "kid")
		if len(told) > 0 {
			t.Fatalf("%s", rest)
		}
		if string(rest) == "withheld" && json.Valid(answer) && bytes.Equal(answer, rest) {
			t.Fatalf("%s was handed on", answer)
		}
	})
}
