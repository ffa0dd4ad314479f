package akv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"syscall"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/akvfs/akvfs/keymgr"
)

// Codes of failures that Azure has no code for.
const (
	CodeInterrupted  = "Interrupted" // the caller gave up
	CodeTimeout      = "Timeout"
	CodeDNS          = "DNSFailure"
	CodeTLS          = "TLSFailure"
	CodeRefused      = "ConnectionRefused"
	CodeReset        = "ConnectionReset"
	CodeNoRoute      = "NetworkUnreachable"
	CodeNetwork      = "NetworkFailure"
	CodeBadAnswer    = "BadAnswer"    // of a vault or a directory, but makes no sense
	CodeUnauthorized = "Unauthorized" // the vault refuses a fresh token
)

// verdict is what a failure comes to.
type verdict struct {
	class keymgr.Class
	code  string
	err   error
}

// classify sorts any error of a call. Every path ends in one of the classes;
// what nobody foresaw is unreachable, since it says nothing about the key.
func classify(t *trace, op string, err error) verdict {
	if v, ok := errors.AsType[*verdictError](err); ok {
		return verdict(*v)
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return interrupted(t, err)
	}
	if e, ok := errors.AsType[*tokenError](err); ok {
		return classifyToken(e)
	}
	if e, ok := errors.AsType[*azcore.ResponseError](err); ok {
		return classifyVault(op, answerOf(t, e))
	}
	last := t.lastVault()
	switch {
	case t.ctx.Err() != nil:
		return interrupted(t, err)
	case last.err != nil:
		return network(last.err)
	case last.answer != nil && last.answer.Status == http.StatusUnauthorized:
		return verdict{keymgr.Unreachable, CodeBadChallenge, fmt.Errorf("%s does not ask for a token in the way of a key vault", last.answer.Host)}
	case last.answer != nil:
		return verdict{keymgr.Unreachable, CodeBadAnswer, fmt.Errorf("what %s answered to %s makes no sense", last.answer.Host, last.answer.Request)}
	}
	return network(err)
}

// verdictError is an error that has been judged already.
type verdictError verdict

func (e *verdictError) Error() string { return e.err.Error() }

func judged(class keymgr.Class, code, format string, a ...any) error {
	return &verdictError{class, code, fmt.Errorf(format, a...)}
}

// answerOf is the observed answer behind azcore's error.
func answerOf(t *trace, e *azcore.ResponseError) *AnswerError {
	if a := t.lastVault().answer; a != nil && a.Status == e.StatusCode {
		return a
	}
	return &AnswerError{Host: "the vault", Request: t.asked(), Status: e.StatusCode, Code: word(e.ErrorCode)}
}

// interrupted is a call that ran out of time or was given up. If something was
// seen before that, it is what tells.
func interrupted(t *trace, err error) verdict {
	end, code := &ended{context.DeadlineExceeded, "time ran out"}, CodeTimeout
	if errors.Is(t.ctx.Err(), context.Canceled) || errors.Is(err, context.Canceled) && t.ctx.Err() == nil {
		end, code = &ended{context.Canceled, "interrupted"}, CodeInterrupted
	}
	seen := verdict{code: code, err: end}
	if last := t.lastFailure(); last.answer != nil {
		seen = verdict{code: last.answer.code(), err: fmt.Errorf("%w; before that %w", end, last.answer)}
	} else if last.err != nil {
		seen = network(last.err)
		seen.err = fmt.Errorf("%w; before that %w", end, seen.err)
	}
	if code == CodeInterrupted {
		seen.code = code
	}
	seen.class = keymgr.Unreachable
	return seen
}

// ended is a context's end, in words.
type ended struct {
	err  error
	text string
}

func (e *ended) Error() string { return e.text }
func (e *ended) Unwrap() error { return e.err }

// stateCodes are those by which a vault tells about the key, whatever the
// status that they come with.
var stateCodes = []string{
	"KeyDisabled", "KeyExpired", "KeyNotYetValid", "KeyNotFound", "KeyDeleted",
	"ForbiddenByPolicy", "ForbiddenByRbac", "AccessDenied",
	"ObjectIsDeletedButRecoverable", "ObjectIsBeingDeleted",
}

// networkCodes are the vault's network rules.
var networkCodes = []string{"ForbiddenByFirewall", "ForbiddenByConnection"}

// classifyVault judges an answer of the vault, by its codes, then its status.
func classifyVault(op string, a *AnswerError) verdict {
	v := verdict{class: keymgr.Unreachable, code: a.code(), err: a}
	known := func(codes []string) bool { return slices.Contains(codes, a.Code) || slices.Contains(codes, a.Inner) }
	opens := op == opUnwrap || op == opDecrypt
	notThere := []string{"UnsupportedApiVersion", "NotSupported"} // with an older private cloud
	switch {
	case a.Status == http.StatusUnauthorized:
		v.class, v.code = keymgr.Credentials, CodeUnauthorized
	case a.Code == "" && a.Inner == "": // a proxy, or no vault at all
	case known(networkCodes):
	case known([]string{"KeyOperationForbidden"}) && !opens:
		v.class = keymgr.Invalid // the key never had the operation
	case known(stateCodes), a.Status == http.StatusForbidden, a.Status == http.StatusNotFound, a.Status == http.StatusConflict:
		v.class = keymgr.Revoked
	case a.Status == http.StatusBadRequest && opens && a.Request != "get" && !known(notThere):
		v.class = keymgr.Mismatch // the ciphertext, which is all that was sent
	case a.Status == http.StatusBadRequest:
		v.class = keymgr.Invalid
	}
	return v
}

// classifyToken judges the failure to get a token.
func classifyToken(e *tokenError) verdict {
	switch a := e.seen.answer; {
	case e.code == CodeBadChallenge:
		return verdict{keymgr.Unreachable, e.code, e.err}
	case e.code != "":
		return verdict{keymgr.Credentials, e.code, e.err}
	case e.seen.err != nil:
		return network(e.seen.err)
	case a == nil:
		return verdict{keymgr.Credentials, CodeCredentialUnusable, e}
	case a.Status < 300:
		return verdict{keymgr.Unreachable, CodeBadAnswer, fmt.Errorf("what %s answered to %s makes no sense", a.Host, a.Request)}
	case a.Status >= 500, a.Status < 400, a.Code == "",
		a.Status == http.StatusTooManyRequests, a.Status == http.StatusRequestTimeout,
		a.Code == "temporarily_unavailable", a.Code == "server_error":
		return verdict{keymgr.Unreachable, a.code(), a}
	default:
		return verdict{keymgr.Credentials, a.code(), annotate(a)}
	}
}

// tokenNotes say what the directory's commonest codes mean. They are listed in
// Microsoft's "Microsoft Entra authentication and authorization error codes".
var tokenNotes = map[string]string{
	"AADSTS7000215":  "the client secret is wrong",
	"AADSTS7000222":  "the client secret has expired",
	"AADSTS7000112":  "the application is disabled",
	"AADSTS700016":   "the tenant has no application of this client ID",
	"AADSTS90002":    "there is no such tenant",
	"AADSTS900023":   "the tenant ID is none",
	"AADSTS700027":   "the certificate is not registered for the application, or does not fit it",
	"AADSTS700024":   "the client's assertion is outside of its time; check the clock of this host",
	"AADSTS70021":    "no federated identity of the application fits the token",
	"AADSTS700213":   "no federated identity of the application fits the token",
	"AADSTS53003":    "conditional access refuses it",
	"AADSTS500011":   "the tenant does not know the vault's service",
	"AADSTS1000502":  "the certificate has expired",
	"invalid_client": "the client's credentials are refused",
}

func annotate(a *AnswerError) *AnswerError {
	with := *a
	with.Note = tokenNotes[a.code()]
	return &with
}

// network judges an exchange that had no answer.
func network(err error) verdict {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = fmt.Errorf("%s: %w", hostOf(u.URL), u.Err)
	}
	v := verdict{keymgr.Unreachable, CodeNetwork, err}
	_, isDNS := errors.AsType[*net.DNSError](err)
	timeout, isTimeout := errors.AsType[net.Error](err)
	switch {
	case isTLSFailure(err):
		v.code = CodeTLS
	case isDNS:
		v.code = CodeDNS
	case errors.Is(err, context.DeadlineExceeded), isTimeout && timeout.Timeout():
		v.code = CodeTimeout
	case errors.Is(err, syscall.ECONNREFUSED):
		v.code = CodeRefused
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		v.code = CodeReset
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		v.code = CodeNoRoute
	}
	return v
}
