package akv

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/akvfs/akvfs/keymgr"
	"github.com/akvfs/akvfs/keymgr/akv/akvtest"
)

// master stands for a master key.
var master = []byte("0123456789abcdef0123456789ABCDEF")

// cloud is a test cloud with one vault and one key.
type cloud struct {
	*akvtest.Server
	vault   *akvtest.Vault
	version string            // the key's first
	env     map[string]string // what Config.Getenv gives
}

const keyName = "master-kek"

func newCloud(t testing.TB) *cloud { return newCloudOf(t, akvtest.Options{}, akvtest.KeySpec{}) }

func newCloudOf(t testing.TB, o akvtest.Options, spec akvtest.KeySpec) *cloud {
	t.Helper()
	s, err := akvtest.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	c := &cloud{Server: s, vault: s.AddVault("kv-test"), env: make(map[string]string)}
	if spec.Type == akvtest.OctHSM {
		c.vault = s.AddHSM("hsm-test")
	}
	if c.version, err = c.vault.CreateKey(keyName, spec); err != nil {
		t.Fatal(err)
	}
	for _, line := range s.Env() {
		name, value, _ := strings.Cut(line, "=")
		c.env[name] = value
	}
	return c
}

// config is how a program finds the cloud, with a budget for tests.
func (c *cloud) config() Config {
	return Config{
		ProviderOptions: keymgr.ProviderOptions{Timeout: 20 * time.Second},
		Dial:            c.Dial,
		Getenv:          func(name string) string { return c.env[name] },
	}
}

func (c *cloud) open(t testing.TB, change ...func(*Config)) *Provider {
	t.Helper()
	p, err := c.tryOpen(c.vault.KeyID(keyName), change...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (c *cloud) tryOpen(keyID string, change ...func(*Config)) (*Provider, error) {
	cfg := c.config()
	for _, f := range change {
		f(&cfg)
	}
	return New(keyID, cfg)
}

func mustWrap(t testing.TB, p *Provider) keymgr.Wrapped {
	t.Helper()
	w, err := p.Wrap(t.Context(), master)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func mustUnwrap(t testing.TB, p *Provider, w keymgr.Wrapped) {
	t.Helper()
	got, err := p.Unwrap(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, master) {
		t.Fatalf("unwrapped %q", got)
	}
}

// must fails the test for an owner's act that fails.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// keyError is the KeyError in err.
func keyError(t testing.TB, err error) *keymgr.KeyError {
	t.Helper()
	ke, ok := errors.AsType[*keymgr.KeyError](err)
	if !ok {
		t.Fatalf("%v (%T) is no KeyError", err, err)
	}
	return ke
}

// expect checks class and code.
func expect(t testing.TB, err error, class keymgr.Class, code string) *keymgr.KeyError {
	t.Helper()
	ke := keyError(t, err)
	if ke.Class != class || ke.Code != code {
		t.Errorf("class %s, code %s; want %s, %s: %v", ke.Class, ke.Code, class, code, err)
	}
	return ke
}

// silent checks that an error's text repeats nothing that it must not.
func (c *cloud) silent(t testing.TB, text string) {
	t.Helper()
	secrets := append(c.Directory().Tokens(), c.Directory().Secret, akvtest.Marker,
		string(master), base64.RawURLEncoding.EncodeToString(master))
	for _, s := range secrets {
		if strings.Contains(text, s) {
			t.Errorf("the text %q holds %q", text, s)
		}
	}
}

// requestsOf counts what the vault was asked.
func (c *cloud) requestsOf(request string) int {
	n := 0
	for _, r := range c.Requests() {
		if r.Request == request {
			n++
		}
	}
	return n
}

// noDial fails the test if the network is used.
func noDial(t testing.TB) func(context.Context, string, string) (net.Conn, error) {
	return func(_ context.Context, _, address string) (net.Conn, error) {
		t.Errorf("%s was dialled", address)
		return nil, errors.New("no network in this test")
	}
}

// dialPlain is Dial, but lets addresses of loopback be themselves.
func (c *cloud) dialPlain(ctx context.Context, network, address string) (net.Conn, error) {
	if strings.HasPrefix(address, "127.0.0.1:") {
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	return c.Dial(ctx, network, address)
}
