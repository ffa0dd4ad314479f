package akv

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// AnswerError is an answer that is no success, of a vault or of whoever gives
// tokens. It holds what Azure's documentation defines (status and codes) and
// nothing that the other side could fill as it likes.
type AnswerError struct {
	Host       string
	Request    string // "get", "wrapKey", ..., "the request for a token"
	Status     int
	Code       string // "Forbidden"; of the directory: "invalid_client"
	Inner      string // "ForbiddenByRbac"; of the directory: "AADSTS7000222"
	RequestID  string // for Microsoft's support
	RetryAfter time.Duration
	Note       string // our own words
}

// Error is one clause with all the facts.
func (a *AnswerError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s answered %s with HTTP %d", a.Host, a.Request, a.Status)
	if codes := strings.Trim(a.Code+", "+a.Inner, ", "); codes != "" {
		fmt.Fprintf(&b, " %s", codes)
	} else {
		b.WriteString(" and no error code of Azure's")
	}
	if a.RetryAfter > 0 {
		fmt.Fprintf(&b, ", retry after %s", a.RetryAfter)
	}
	if a.RequestID != "" {
		fmt.Fprintf(&b, " (request %s)", a.RequestID)
	}
	if a.Note != "" {
		b.WriteString("; " + a.Note)
	}
	return b.String()
}

// code is the most telling code.
func (a *AnswerError) code() string {
	switch {
	case a.Inner != "":
		return a.Inner
	case a.Code != "":
		return a.Code
	}
	return "HTTP" + strconv.Itoa(a.Status)
}

// parseAnswer adds what headers and body tell. Anything malformed is as if it
// were not there.
func parseAnswer(a AnswerError, header http.Header, body []byte, tokens bool) *AnswerError {
	a.RequestID = word(header.Get("x-ms-request-id"))
	a.RetryAfter = retryAfter(header)
	if tokens {
		a.Code, a.Inner = parseOAuth(body)
	} else {
		a.Code, a.Inner = parseVault(body)
	}
	return &a
}

// parseVault takes Key Vault's error body apart: {"error":{"code":...,
// "innererror":{"code":...}}}. The innermost code is the one that tells.
func parseVault(body []byte) (code, inner string) {
	type level struct {
		Code  string          `json:"code"`
		Inner json.RawMessage `json:"innererror"`
	}
	var doc struct {
		Error level `json:"error"`
	}
	if json.Unmarshal(body, &doc) != nil {
		return "", ""
	}
	code = word(doc.Error.Code)
	for next := doc.Error.Inner; next != nil; {
		var l level
		if json.Unmarshal(next, &l) != nil {
			break
		}
		if w := word(l.Code); w != "" {
			inner = w
		}
		next = l.Inner
	}
	if inner == code {
		inner = ""
	}
	return code, inner
}

// parseOAuth takes the directory's error body apart (RFC 6749 section 5.2, and
// Microsoft's error_codes).
func parseOAuth(body []byte) (code, inner string) {
	var doc struct {
		Error string  `json:"error"`
		Codes []int64 `json:"error_codes"`
	}
	if json.Unmarshal(body, &doc) != nil {
		return "", ""
	}
	if len(doc.Codes) > 0 && doc.Codes[0] > 0 {
		inner = "AADSTS" + strconv.FormatInt(doc.Codes[0], 10)
	}
	return word(doc.Error), inner
}

// word is s if it has the form of a code or of an identifier, else nothing.
func word(s string) string {
	if len(s) > 64 || strings.ContainsFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("_-.", r))
	}) {
		return ""
	}
	return s
}

// retryAfter is the wait that an answer asks for (RFC 9110 section 10.2.3). A
// date counts from the answer's own date.
func retryAfter(header http.Header) time.Duration {
	value := header.Get("Retry-After")
	if n, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	then, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		return 0
	}
	return max(0, then.Sub(now))
}
