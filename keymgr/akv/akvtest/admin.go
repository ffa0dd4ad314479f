package akvtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// The admin interface, on the plain listener. All acts are POST, with form or
// query values; they answer a JSON value ({} if there is nothing to say).
//
//	/admin/vault/add       name
//	/admin/hsm/add         name
//	/admin/key/create      vault key [type] [bits] [ops, with commas]
//	/admin/key/ACT         vault key [version] [at]
//	                       ACT: rotate enable disable expires not-before delete
//	                       recover purge replace ops
//	/admin/vault/deny      vault [code] [request, with commas]
//	/admin/vault/allow     vault
//	/admin/secret/ACT      [client] [value]   ACT: add expire remove
//	/admin/tokens/revoke
//	/admin/fault/add       a Fault as JSON in the body
//	/admin/fault/clear
//	/admin/certificate     [mode]
//	/admin/clock           offset, a duration such as -1h
//	/admin/requests/clear
//	GET /admin/state, GET /admin/requests
//
// vault is the first label of its name. at is a time of RFC 3339, a duration
// from now ("-1m"), or empty for none.
type act func(s *Server, v url.Values, body []byte) (any, error)

var acts = map[string]act{
	"vault/add": func(s *Server, v url.Values, _ []byte) (any, error) { return s.AddVault(v.Get("name")).URL(), nil },
	"hsm/add":   func(s *Server, v url.Values, _ []byte) (any, error) { return s.AddHSM(v.Get("name")).URL(), nil },
	"vault/deny": onVault(func(vault *Vault, v url.Values) (any, error) {
		vault.Deny(v.Get("code"), list(v.Get("request"))...)
		return nil, nil
	}),
	"vault/allow": onVault(func(vault *Vault, _ url.Values) (any, error) { vault.Allow(); return nil, nil }),
	"key/create": onVault(func(vault *Vault, v url.Values) (any, error) {
		bits, err := number(v.Get("bits"))
		if err != nil {
			return nil, err
		}
		version, err := vault.CreateKey(v.Get("key"), KeySpec{Type: v.Get("type"), Bits: bits, Ops: list(v.Get("ops"))})
		return vault.KeyID(v.Get("key"), version), err
	}),
	"key/rotate": onVault(func(vault *Vault, v url.Values) (any, error) {
		version, err := vault.Rotate(v.Get("key"))
		return vault.KeyID(v.Get("key"), version), err
	}),
	"key/enable": onVault(func(vault *Vault, v url.Values) (any, error) {
		return nil, vault.Enable(v.Get("key"), v.Get("version"))
	}),
	"key/disable": onVault(func(vault *Vault, v url.Values) (any, error) {
		return nil, vault.Disable(v.Get("key"), v.Get("version"))
	}),
	"key/expires":    onVault(setTime((*Vault).SetExpires)),
	"key/not-before": onVault(setTime((*Vault).SetNotBefore)),
	"key/delete":     onVault(func(vault *Vault, v url.Values) (any, error) { return nil, vault.Delete(v.Get("key")) }),
	"key/recover":    onVault(func(vault *Vault, v url.Values) (any, error) { return nil, vault.Recover(v.Get("key")) }),
	"key/purge":      onVault(func(vault *Vault, v url.Values) (any, error) { return nil, vault.Purge(v.Get("key")) }),
	"key/replace": onVault(func(vault *Vault, v url.Values) (any, error) {
		return nil, vault.Replace(v.Get("key"), v.Get("version"))
	}),
	"key/ops": onVault(func(vault *Vault, v url.Values) (any, error) {
		return nil, vault.SetOps(v.Get("key"), list(v.Get("ops"))...)
	}),
	"secret/add": onClient(func(d *Directory, client, value string) { d.AddSecret(client, value) }),
	"secret/expire": onClient(func(d *Directory, client, _ string) {
		d.ExpireSecrets(client)
		d.RevokeTokens()
	}),
	"secret/remove": onClient(func(d *Directory, client, _ string) {
		d.RemoveSecrets(client)
		d.RevokeTokens()
	}),
	"tokens/revoke": onClient(func(d *Directory, _, _ string) { d.RevokeTokens() }),
	"fault/add": func(s *Server, _ url.Values, body []byte) (any, error) {
		var f Fault
		if err := json.Unmarshal(body, &f); err != nil {
			return nil, err
		}
		s.Inject(f)
		return nil, nil
	},
	"fault/clear":    func(s *Server, _ url.Values, _ []byte) (any, error) { s.ClearFaults(); return nil, nil },
	"certificate":    func(s *Server, v url.Values, _ []byte) (any, error) { s.SetCertificate(v.Get("mode")); return nil, nil },
	"requests/clear": func(s *Server, _ url.Values, _ []byte) (any, error) { s.ForgetRequests(); return nil, nil },
	"clock": func(s *Server, v url.Values, _ []byte) (any, error) {
		offset, err := time.ParseDuration(v.Get("offset"))
		if err == nil {
			s.SetClock(func() time.Time { return time.Now().Add(offset) })
		}
		return nil, err
	},
}

func onVault(f func(*Vault, url.Values) (any, error)) act {
	return func(s *Server, v url.Values, _ []byte) (any, error) {
		for _, suffix := range []string{s.o.Suffix, s.o.HSMSuffix} {
			if vault := s.vault(v.Get("vault") + "." + suffix); vault != nil {
				return f(vault, v)
			}
		}
		return nil, fmt.Errorf("there is no vault %q", v.Get("vault"))
	}
}

func onClient(f func(d *Directory, client, value string)) act {
	return func(s *Server, v url.Values, _ []byte) (any, error) {
		client := v.Get("client")
		if client == "" {
			client = s.directory.ClientID
		}
		f(s.directory, client, v.Get("value"))
		return nil, nil
	}
}

func setTime(set func(*Vault, string, string, time.Time) error) func(*Vault, url.Values) (any, error) {
	return func(vault *Vault, v url.Values) (any, error) {
		at, err := moment(v.Get("at"), vault.s.now())
		if err != nil {
			return nil, err
		}
		return at, set(vault, v.Get("key"), v.Get("version"), at)
	}
}

// moment is a time, a duration from now, or none.
func moment(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(d), nil
	}
	return time.Parse(time.RFC3339, text)
}

func list(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' })
}

func number(text string) (int, error) {
	if text == "" {
		return 0, nil
	}
	return strconv.Atoi(text)
}

func (s *Server) admin(w http.ResponseWriter, r *http.Request) {
	what := strings.TrimPrefix(r.URL.Path, "/admin/")
	value, err := s.administer(r, what)
	if err != nil {
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
		return
	}
	if value == nil {
		value = struct{}{}
	}
	writeJSON(w, http.StatusOK, value)
}

func (s *Server) administer(r *http.Request, what string) (any, error) {
	if r.Method == http.MethodGet {
		switch what {
		case "state":
			return s.state(), nil
		case "requests":
			return s.Requests(), nil
		}
	}
	do, ok := acts[what]
	if !ok || r.Method != http.MethodPost {
		return nil, fmt.Errorf("there is no %s %s", r.Method, r.URL.Path)
	}
	values := r.URL.Query()
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") && what != "fault/add" {
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return nil, err
		}
		for k, v := range form {
			values[k] = append(values[k], v...)
		}
	}
	return do(s, values, body)
}

func (s *Server) state() map[string]map[string]KeyState {
	s.mu.Lock()
	var vaults []*Vault
	for _, v := range s.vaults {
		vaults = append(vaults, v)
	}
	s.mu.Unlock()
	all := make(map[string]map[string]KeyState)
	for _, v := range vaults {
		all[v.host] = v.State()
	}
	return all
}

// Admin drives a test cloud in another process.
type Admin struct {
	URL string // Server.ProxyURL of it
}

// Do does one act, with values in pairs ("vault", "kv", "key", "k"), and
// returns what it answers, as JSON; a string without its quotes.
func (a Admin) Do(ctx context.Context, what string, pairs ...string) (string, error) {
	values := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		values.Set(pairs[i], pairs[i+1])
	}
	return a.send(ctx, http.MethodPost, what+"?"+values.Encode(), "")
}

// Inject adds a fault.
func (a Admin) Inject(ctx context.Context, f Fault) error {
	body, err := json.Marshal(f)
	if err != nil {
		return err
	}
	_, err = a.send(ctx, http.MethodPost, "fault/add", string(body))
	return err
}

// Requests are those answered so far.
func (a Admin) Requests(ctx context.Context) ([]Request, error) {
	text, err := a.send(ctx, http.MethodGet, "requests", "")
	if err != nil {
		return nil, err
	}
	var all []Request
	return all, json.Unmarshal([]byte(text), &all)
}

func (a Admin) send(ctx context.Context, method, what, body string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, a.URL+"/admin/"+what, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	// Not through a proxy: this may be it.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	var said struct{ Error string }
	switch {
	case resp.StatusCode == http.StatusOK && bytes.HasPrefix(answer, []byte(`"`)):
		var text string
		err := json.Unmarshal(answer, &text)
		return text, err
	case resp.StatusCode == http.StatusOK:
		return strings.TrimSpace(string(answer)), nil
	case json.Unmarshal(answer, &said) == nil:
		return "", errors.New("test cloud: " + said.Error)
	}
	return "", fmt.Errorf("test cloud: HTTP %d", resp.StatusCode)
}
