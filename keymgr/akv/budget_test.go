package akv

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/akvfs/akvfs/keymgr"
	"github.com/akvfs/akvfs/keymgr/akv/akvtest"
)

// TestRetries: what passes is waited out, as often as it takes and as long as
// the vault asks for.
func TestRetries(t *testing.T) {
	for name, f := range map[string]akvtest.Fault{
		"throttled":          {Request: "unwrapKey", Status: 429, Code: "Throttled", RetryAfter: "1", Times: 1},
		"throttled by date":  {Request: "unwrapKey", Status: 429, Code: "Throttled", RetryAfter: "Mon, 02 Jan 2006 15:04:05 GMT", Times: 2},
		"errors":             {Request: "unwrapKey", Status: 500, Code: "InternalServerError", Times: 3},
		"unavailable":        {Request: "get", Status: 503, Code: "ServiceUnavailable", Times: 3},
		"gateway":            {Request: "get", Status: 502, Raw: "<html>", Times: 2},
		"request time-out":   {Request: "get", Status: 408, Raw: "<html>", Times: 1},
		"reset":              {Request: "unwrapKey", Reset: true, Times: 2},
		"directory throttle": {Vault: "directory", Request: "token", Status: 429, RetryAfter: "1", Times: 1, Raw: "{}"},
		"directory errors":   {Vault: "directory", Status: 500, Times: 3, Raw: "{}"},
		"directory resets":   {Vault: "directory", Request: "token", Reset: true, Times: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCloud(t)
			w := mustWrap(t, c.open(t))
			c.Inject(f)
			mustUnwrap(t, c.open(t), w)
		})
	}
}

// TestRetriesAreBounded: a vault that is down is asked a handful of times.
func TestRetriesAreBounded(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	c.Inject(akvtest.Fault{Status: 500, Code: "InternalServerError"})
	_, err := c.open(t, budget(3*time.Second)).Describe(t.Context())
	expect(t, err, keymgr.Unreachable, "InternalServerError")
	if n := c.requestsOf("get"); n < 3 || n > 8 {
		t.Errorf("asked %d times", n)
	}
}

// TestNoRetries: what cannot pass is not asked again.
func TestNoRetries(t *testing.T) {
	for name, c := range map[string]struct {
		fault akvtest.Fault
		code  string
	}{
		"forbidden":       {akvtest.Fault{Request: "get", Status: 403, Code: "Forbidden"}, "Forbidden"},
		"bad request":     {akvtest.Fault{Request: "get", Status: 400, Code: "BadParameter"}, "BadParameter"},
		"too long a wait": {akvtest.Fault{Request: "get", Status: 503, Code: "Busy", RetryAfter: "3600"}, "Busy"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cl := newCloud(t)
			cl.Inject(c.fault)
			_, err := cl.open(t).Describe(t.Context())
			ke := keyError(t, err)
			if n := cl.requestsOf("get"); ke.Code != c.code || n != 1 {
				t.Errorf("asked %d times: %v", n, err)
			}
			if c.fault.RetryAfter != "" && ke.RetryAfter != time.Hour {
				t.Errorf("retry after %s", ke.RetryAfter)
			}
		})
	}
}

// TestInterrupt: a caller who gives up is answered at once, wherever the call
// is: in the vault, in the directory, in a pause between two tries, in a
// connection that never comes to be.
func TestInterrupt(t *testing.T) {
	for name, c := range map[string]struct {
		fault akvtest.Fault
		reach string // the request after which to give up
		hang  bool   // never connects
	}{
		"slow vault":     {fault: akvtest.Fault{Delay: time.Hour}, reach: "get"},
		"slow directory": {fault: akvtest.Fault{Vault: "directory", Delay: time.Hour}, reach: "discovery"},
		"pause":          {fault: akvtest.Fault{Status: 429, Code: "Throttled", RetryAfter: "3000"}, reach: "get"},
		"connecting":     {hang: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cl := newCloud(t)
			cl.Inject(c.fault)
			ctx, cancel := context.WithCancel(t.Context())
			dialled := make(chan struct{}, 100)
			p := cl.open(t, func(cfg *Config) {
				cfg.Timeout = time.Hour
				if c.hang {
					cfg.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
						dialled <- struct{}{}
						<-ctx.Done()
						return nil, ctx.Err()
					}
				}
			})
			done := make(chan error)
			go func() {
				_, err := p.Describe(ctx)
				done <- err
			}()
			if c.hang {
				<-dialled
			} else {
				for cl.requestsOf(c.reach) == 0 {
					time.Sleep(time.Millisecond)
				}
			}
			cancel()
			err := <-done // or the test's own time-out
			expect(t, err, keymgr.Unreachable, CodeInterrupted)
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%v does not match context.Canceled", err)
			}
		})
	}
}

// TestCallersDeadline: a context's deadline holds where it is the earlier.
func TestCallersDeadline(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	c.Inject(akvtest.Fault{Delay: time.Hour})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := c.open(t, budget(time.Hour)).Describe(ctx)
	expect(t, err, keymgr.Unreachable, CodeTimeout)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v does not match context.DeadlineExceeded", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	_, err = c.open(t).Wrap(ctx, master)
	expect(t, err, keymgr.Unreachable, CodeInterrupted)
}

// TestSlowTry: a connection that has gone dead does not use up the budget.
func TestSlowTry(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	c.Inject(akvtest.Fault{Request: "get", Delay: time.Hour, Times: 1})
	p := c.open(t, budget(6*time.Second))
	if _, err := p.Describe(t.Context()); err != nil {
		t.Error(err)
	}
	if n := c.requestsOf("get"); n != 2 {
		t.Errorf("asked %d times", n)
	}
}

// TestAwait: a function that ignores its context is left behind, and what it
// comes back with later is not lost sight of.
func TestAwait(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	release := make(chan struct{})
	settled := make(chan bool, 1)
	_, err := await(ctx, func() (string, error) {
		<-release
		return "late", nil
	}, func(s string, taken bool) { settled <- taken || s != "late" })
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(release)
	if <-settled {
		t.Error("the late result was not settled as one")
	}
	got, err := await(t.Context(), func() (string, error) { return "in time", nil },
		func(s string, taken bool) { settled <- taken && s == "in time" })
	if got != "in time" || err != nil || !<-settled {
		t.Errorf("%q, %v", got, err)
	}
	_, err = await(t.Context(), func() (string, error) { panic("text of the other side") }, keep)
	if v, ok := errors.AsType[*verdictError](err); !ok || v.class != keymgr.Unreachable {
		t.Error(err)
	}
}

// TestRedirects: a master key that is to be wrapped goes nowhere else.
func TestRedirects(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	other := c.AddVault("elsewhere")
	for _, status := range []int{http.StatusTemporaryRedirect, http.StatusPermanentRedirect, http.StatusFound} {
		c.ClearFaults()
		c.Inject(akvtest.Fault{Vault: c.vault.Host(), Request: "wrapKey", Status: status, Raw: "moved", Location: other.URL() + "/keys/k"})
		_, err := c.open(t).Wrap(t.Context(), master)
		if ke := keyError(t, err); ke.Class != keymgr.Unreachable {
			t.Error(err)
		}
	}
	for _, r := range c.Requests() {
		if r.Host == other.Host() {
			t.Errorf("the redirect was followed: %+v", r)
		}
	}
}

// TestAbandonedUnwrapIsZeroed: nobody takes a plaintext that came too late, so
// nobody else would zero it.
func TestAbandonedUnwrapIsZeroed(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	plain := []byte("a master key that came too late.")
	release := make(chan struct{})
	settled := make(chan struct{})
	_, err := await(ctx, func() ([]byte, error) {
		<-release
		return plain, nil
	}, func(b []byte, taken bool) {
		zeroUntaken(b, taken)
		close(settled)
	})
	close(release)
	<-settled
	if err == nil || plain[0] != 0 || plain[31] != 0 {
		t.Errorf("%q, %v", plain, err)
	}
}

// TestShouldRetry covers the rules for the metadata service, which no listener
// of a test can stand for at its own address.
func TestShouldRetry(t *testing.T) {
	answer := func(host string, status int) *http.Response {
		r := httptest.NewRequest(http.MethodGet, "http://"+host+"/x", nil)
		return &http.Response{StatusCode: status, Request: r, Header: http.Header{}}
	}
	for _, c := range []struct {
		host   string
		status int
		want   bool
	}{
		{"kv.vault.azure.net", 404, false}, {metadataHost, 404, true}, {metadataHost, 410, true},
		{metadataHost, 400, false}, {metadataHost, 500, true}, {"kv.vault.azure.net", 429, true},
	} {
		if got := shouldRetry(answer(c.host, c.status), nil); got != c.want {
			t.Errorf("%s, %d: %v", c.host, c.status, got)
		}
	}
	if !shouldRetry(nil, errors.New("network")) {
		t.Error("a network's failure is not tried again")
	}
}

// TestProxyIsNotForMetadata: tokens of a managed identity are asked of the host
// itself.
func TestProxyIsNotForMetadata(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "http://169.254.169.254/metadata/identity/oauth2/token", nil)
	if u, err := proxy(r); u != nil || err != nil {
		t.Errorf("%v, %v", u, err)
	}
}

// TestTokenIsShared: calls at the same time cost one token.
func TestTokenIsShared(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	p := c.open(t)
	var failed atomic.Int32
	done := make(chan struct{})
	for range 6 {
		go func() {
			if _, err := p.Describe(t.Context()); err != nil {
				failed.Add(1)
			}
			done <- struct{}{}
		}()
	}
	for range 6 {
		<-done
	}
	if n := c.requestsOf("token"); n != 1 || failed.Load() != 0 {
		t.Errorf("%d tokens, %d failures", n, failed.Load())
	}
}
