package akv

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// trace is what one call has seen on the network. azidentity flattens errors
// into text, and a time-out hides what was answered before it; so the HTTP
// pipelines of both note each exchange here. It travels in the context.
type trace struct {
	ctx context.Context // of the whole call; holds the trace itself

	mu      sync.Mutex
	request string    // what is being asked of the vault
	version string    // of the key that is being used, once known
	vault   exchange  // last with the vault
	token   exchange  // last with whoever gives tokens
	recent  exchange  // the later of the two that tells of a failure
	date    time.Time // of the vault's last answer; zero if it gave none
}

// exchange is one request's end: an answer or an error. Neither: none yet.
type exchange struct {
	answer *AnswerError // any status, 200 too
	err    error
}

type traceKey struct{}

// newTrace starts a call. ctx has the call's deadline.
func newTrace(ctx context.Context) *trace {
	t := &trace{}
	t.ctx = context.WithValue(ctx, traceKey{}, t)
	return t
}

func traceOf(ctx context.Context) *trace {
	t, _ := ctx.Value(traceKey{}).(*trace)
	return t
}

// asks says what the vault is asked next, and forgets the answers before it.
func (t *trace) asks(request string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.request, t.recent = request, exchange{}
}

func (t *trace) asked() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.request
}

// uses notes the version that an unversioned identifier came to.
func (t *trace) uses(version string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.version = version
}

func (t *trace) usedVersion() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.version
}

func (t *trace) lastToken() exchange {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.token
}

func (t *trace) lastFailure() exchange {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.recent
}

func (t *trace) lastVault() exchange {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.vault
}

// vaultTime is the vault's clock, or the fallback if it told none.
func (t *trace) vaultTime(fallback func() time.Time) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.date.IsZero() {
		return fallback()
	}
	return t.date
}

// observer is a pipeline policy that notes exchanges in the call's trace.
type observer struct {
	tokens bool // this is the pipeline of a credential
	log    *slog.Logger
}

// Do implements policy.Policy.
func (o observer) Do(req *policy.Request) (*http.Response, error) {
	resp, err := req.Next()
	t := traceOf(req.Raw().Context())
	if t == nil {
		return resp, err
	}
	x := exchange{err: err}
	if err == nil {
		x.answer = o.parse(req.Raw(), resp, t.asked())
	}
	t.note(o.tokens, x, resp)
	if o.log != nil && x.failed() {
		o.log.DebugContext(t.ctx, "key vault request failed", "host", req.Raw().URL.Host, "error", x.cause())
	}
	return resp, err
}

// parse keeps the facts of an answer; the text stays behind.
func (o observer) parse(req *http.Request, resp *http.Response, request string) *AnswerError {
	if o.tokens {
		request = "the request for a token"
	}
	a := &AnswerError{Host: req.URL.Host, Request: request, Status: resp.StatusCode}
	if resp.StatusCode < 300 {
		return a
	}
	body, err := runtime.Payload(resp)
	if err != nil {
		return a // what was read is no answer of Azure's
	}
	return parseAnswer(*a, resp.Header, body, o.tokens)
}

func (t *trace) note(tokens bool, x exchange, resp *http.Response) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if tokens {
		t.token = x
	} else {
		t.vault = x
		if x.answer != nil {
			t.date, _ = http.ParseTime(resp.Header.Get("Date"))
		}
	}
	if x.failed() {
		t.recent = x
	}
}

// failed reports whether an exchange tells why a call did not succeed. A 401
// is how each first request to a vault ends, and a context's end is known.
func (x exchange) failed() bool {
	if x.answer != nil {
		return x.answer.Status >= 400 && x.answer.Status != http.StatusUnauthorized
	}
	return x.err != nil && !errors.Is(x.err, context.Canceled) && !errors.Is(x.err, context.DeadlineExceeded)
}

func (x exchange) cause() error {
	if x.answer != nil {
		return x.answer
	}
	return x.err
}
