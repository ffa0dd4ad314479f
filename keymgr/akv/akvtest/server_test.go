package akvtest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func start(t *testing.T) *Server {
	t.Helper()
	s, err := Start(Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// browser is an HTTPS client that trusts the server, direct or by its proxy.
func browser(t *testing.T, s *Server, byProxy bool) *http.Client {
	t.Helper()
	pem, err := os.ReadFile(s.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DialContext: s.Dial, DisableKeepAlives: true}
	if byProxy {
		u, err := url.Parse(s.ProxyURL())
		if err != nil {
			t.Fatal(err)
		}
		transport.DialContext, transport.Proxy = nil, http.ProxyURL(u)
	}
	return &http.Client{Transport: transport}
}

// TestChallenge: whoever has no token is told where to get one, by either way.
func TestChallenge(t *testing.T) {
	s := start(t)
	v := s.AddVault("kv")
	for _, byProxy := range []bool{false, true} {
		resp, err := browser(t, s, byProxy).Get(v.URL() + "/keys/k?api-version=7.4")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.Body.Close() != nil {
			t.Fatal(err)
		}
		want := `Bearer authorization="https://login.microsoftonline.com/` + s.Directory().Tenant + `", resource="https://vault.azure.net"`
		if resp.StatusCode != 401 || resp.Header.Get("WWW-Authenticate") != want || !strings.Contains(string(body), Marker) {
			t.Errorf("%d, %s, %s", resp.StatusCode, resp.Header.Get("WWW-Authenticate"), body)
		}
	}
	if n := len(s.Requests()); n != 0 {
		t.Errorf("%d requests of strangers are recorded", n)
	}
}

// TestUnknownHosts are neither dialled nor tunnelled.
func TestUnknownHosts(t *testing.T) {
	s := start(t)
	for _, byProxy := range []bool{false, true} {
		if _, err := browser(t, s, byProxy).Get("https://kv-none.vault.azure.net/keys/k"); err == nil {
			t.Errorf("it answers (proxy: %v)", byProxy)
		}
	}
}

// TestTokens: an audience's token opens that audience alone, until it ends.
func TestTokens(t *testing.T) {
	s := start(t)
	v := s.AddVault("kv")
	if _, err := v.CreateKey("k", KeySpec{Type: EC}); err != nil {
		t.Fatal(err)
	}
	get := func(token string) int {
		req, err := http.NewRequest(http.MethodGet, v.URL()+"/keys/k", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := browser(t, s, false).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode
	}
	good, _ := s.Directory().newToken("https://vault.azure.net")
	other, _ := s.Directory().newToken("https://management.azure.com")
	if got := []int{get(good), get(other), get("")}; got[0] != 200 || got[1] != 401 || got[2] != 401 {
		t.Error(got)
	}
	s.Directory().RevokeTokens()
	if got := get(good); got != 401 {
		t.Error(got)
	}
}

// TestAdmin: every act that the comment in admin.go names exists, and wrong
// ones are refused with a reason.
func TestAdmin(t *testing.T) {
	s := start(t)
	a := Admin{URL: s.ProxyURL()}
	for _, c := range []struct {
		what  string
		pairs []string
		says  string // in the answer
		fails string
	}{
		{what: "vault/add", pairs: []string{"name", "kv"}, says: "https://kv.vault.azure.net"},
		{what: "hsm/add", pairs: []string{"name", "hsm"}, says: "https://hsm.managedhsm.azure.net"},
		{what: "key/create", pairs: []string{"vault", "hsm", "key", "k", "type", "oct-HSM"}, says: "https://hsm.managedhsm.azure.net/keys/k/"},
		{what: "key/create", pairs: []string{"vault", "kv", "key", "e", "type", "EC", "ops", "sign,verify"}, says: "https://kv.vault.azure.net/keys/e/"},
		{what: "key/create", pairs: []string{"vault", "kv", "key", "e"}, fails: "already"},
		{what: "key/create", pairs: []string{"vault", "none", "key", "e"}, fails: `no vault "none"`},
		{what: "key/create", pairs: []string{"vault", "kv", "key", "x", "type", "DSA"}, fails: "DSA"},
		{what: "key/create", pairs: []string{"vault", "kv", "key", "x", "bits", "many"}, fails: "many"},
		{what: "key/rotate", pairs: []string{"vault", "hsm", "key", "k"}, says: "https://hsm.managedhsm.azure.net/keys/k/"},
		{what: "key/rotate", pairs: []string{"vault", "hsm", "key", "none"}, fails: "no such key"},
		{what: "key/disable", pairs: []string{"vault", "hsm", "key", "k"}},
		{what: "key/disable", pairs: []string{"vault", "hsm", "key", "k", "version", "x"}, fails: "no such version"},
		{what: "key/enable", pairs: []string{"vault", "hsm", "key", "k"}},
		{what: "key/expires", pairs: []string{"vault", "hsm", "key", "k", "at", "2030-01-02T03:04:05Z"}, says: "2030-01-02T03:04:05Z"},
		{what: "key/not-before", pairs: []string{"vault", "hsm", "key", "k", "at", "-1h"}},
		{what: "key/not-before", pairs: []string{"vault", "hsm", "key", "k", "at", "soon"}, fails: "soon"},
		{what: "key/replace", pairs: []string{"vault", "hsm", "key", "k"}},
		{what: "key/ops", pairs: []string{"vault", "hsm", "key", "k", "ops", "wrapKey"}},
		{what: "key/delete", pairs: []string{"vault", "hsm", "key", "k"}},
		{what: "key/delete", pairs: []string{"vault", "hsm", "key", "k"}, fails: "no such key"},
		{what: "key/recover", pairs: []string{"vault", "hsm", "key", "k"}},
		{what: "key/recover", pairs: []string{"vault", "hsm", "key", "k"}, fails: "no such key"},
		{what: "key/purge", pairs: []string{"vault", "kv", "key", "e"}},
		{what: "key/purge", pairs: []string{"vault", "kv", "key", "e"}, fails: "no such key"},
		{what: "vault/deny", pairs: []string{"vault", "kv", "code", "ForbiddenByRbac", "request", "get,wrapKey"}},
		{what: "vault/allow", pairs: []string{"vault", "kv"}},
		{what: "secret/add", pairs: []string{"value", "new"}},
		{what: "secret/expire"},
		{what: "secret/remove", pairs: []string{"client", "other"}},
		{what: "tokens/revoke"},
		{what: "fault/clear"},
		{what: "certificate", pairs: []string{"mode", "expired"}},
		{what: "clock", pairs: []string{"offset", "1h"}},
		{what: "clock", pairs: []string{"offset", "later"}, fails: "later"},
		{what: "requests/clear"},
		{what: "nonsense", fails: "there is no POST"},
	} {
		got, err := a.Do(t.Context(), c.what, c.pairs...)
		switch {
		case c.fails == "" && (err != nil || !strings.Contains(got, c.says)):
			t.Errorf("%s %v: %q, %v", c.what, c.pairs, got, err)
		case c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)):
			t.Errorf("%s %v: %q, %v; want %q", c.what, c.pairs, got, err, c.fails)
		}
	}
	if err := a.Inject(t.Context(), Fault{Request: "get", Status: 500, Times: 2}); err != nil || len(s.faults) != 1 || s.faults[0].Times != 2 {
		t.Errorf("%+v, %v", s.faults, err)
	}
	if _, err := a.send(t.Context(), http.MethodPost, "fault/add", "no JSON"); err == nil {
		t.Error("a fault that is no JSON is taken")
	}
	state := s.state()["hsm.managedhsm.azure.net"]["k"]
	if len(state.Versions) != 2 || !state.Deleted.IsZero() || state.Type != OctHSM {
		t.Errorf("%+v", state)
	}
	if all, err := a.Requests(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("%+v, %v", all, err)
	}
}

// TestFaultsAreCounted: each strikes as often as it is told, the first that
// fits goes first.
func TestFaultsAreCounted(t *testing.T) {
	s := start(t)
	s.Inject(Fault{Request: "get", Status: 500, Times: 2})
	s.Inject(Fault{Status: 429})
	s.Inject(Fault{Vault: "directory", Status: 503, Times: 1})
	var got []int
	for _, request := range []string{"wrapKey", "GET", "get", "get"} {
		f := s.nextFault("kv.vault.azure.net", request)
		got = append(got, f.Status)
	}
	if got[0] != 429 || got[1] != 500 || got[2] != 500 || got[3] != 429 {
		t.Error(got)
	}
	if f := s.nextFault("directory", "token"); f == nil || f.Status != 503 {
		t.Errorf("%+v", f)
	}
	if f := s.nextFault("directory", "token"); f != nil {
		t.Errorf("%+v", f)
	}
	if f := s.nextFault("kv.vault.azure.net", "challenge"); f != nil {
		t.Errorf("a fault of any request strikes the challenge: %+v", f)
	}
}

// TestMainProgram: ready.json and env are written, the line is printed, and the
// end of standard input is its end.
func TestMainProgram(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cloud")
	var stdout, stderr bytes.Buffer
	code := Main([]string{"--dir", dir, "--key", "HSM:h1/k", "--key", "HSM:h1/k2"}, strings.NewReader(""), &stdout, &stderr)
	if code != 0 {
		t.Fatalf("%d: %s", code, stderr.String())
	}
	var ready Ready
	if err := json.Unmarshal(stdout.Bytes(), &ready); err != nil {
		t.Fatal(err)
	}
	if ready.Keys["HSM:h1/k"] != "https://h1.managedhsm.azure.net/keys/k" || ready.Env["AZURE_CLIENT_SECRET"] == "" || ready.Identity["IDENTITY_HEADER"] == "" {
		t.Errorf("%+v", ready)
	}
	for _, name := range []string{"ca.pem", "ready.json", "env"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	env, err := os.ReadFile(filepath.Join(dir, "env"))
	if err != nil || !strings.Contains(string(env), "export AKVTEST_ADMIN='"+ready.Admin+"/admin'\n") {
		t.Errorf("%s, %v", env, err)
	}
}

func TestMainRefuses(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{nil, 1, "--dir"},
		{[]string{"--nonsense"}, 2, "nonsense"},
		{[]string{"--dir", t.TempDir(), "--key", "noslash"}, 1, "VAULT/NAME"},
		{[]string{"--dir", t.TempDir(), "--key", "HSM:h/k", "--key", "HSM:h/k"}, 1, "already"},
		{[]string{"--dir", t.TempDir(), "--listen", "nowhere"}, 1, "nowhere"},
	} {
		var stdout, stderr bytes.Buffer
		code := Main(c.args, strings.NewReader(""), &stdout, &stderr)
		if code != c.code || !strings.Contains(stderr.String(), c.says) {
			t.Errorf("%v: %d, %s", c.args, code, stderr.String())
		}
	}
}

// TestDialOfMetadata goes to the managed-identity endpoint.
func TestDialOfMetadata(t *testing.T) {
	s := start(t)
	conn, err := s.Dial(context.Background(), "tcp", "169.254.169.254:80")
	if err != nil || conn.RemoteAddr().String() != s.plain.Addr().String() {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
}
