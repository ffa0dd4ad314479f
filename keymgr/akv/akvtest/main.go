package akvtest

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

// Ready is what Main prints, as one line of JSON, when the cloud can be used.
type Ready struct {
	Admin  string            `json:"admin"` // URL for Admin
	CAFile string            `json:"ca_file"`
	Env    map[string]string `json:"env"` // for the program that is tested
	Keys   map[string]string `json:"keys"`
	// Identity is the environment of a managed identity, instead of Env's
	// client ID and secret.
	Identity map[string]string `json:"identity"`
}

// Main runs a test cloud until its standard input ends or a signal comes, and
// returns an exit status. Beside printing Ready it writes it to DIR/ready.json,
// and DIR/env as lines for a shell to source.
//
//	--dir DIR         where ca.pem, ready.json and env go (required)
//	--key VAULT/NAME  make this key; may be repeated; VAULT is made with it;
//	                  HSM:VAULT/NAME makes an oct-HSM key of a Managed HSM
//	--suffix, --authority, --resource, --listen, --listen-plain   as in Options
//	--daemon          do not end when standard input does
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var o Options
	var keys []string
	flags := flag.NewFlagSet("akvtest", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.Dir, "dir", "", "where ca.pem, ready.json and env go")
	flags.StringVar(&o.Suffix, "suffix", "", "DNS suffix of the vaults")
	flags.StringVar(&o.Authority, "authority", "", "host of the directory")
	flags.StringVar(&o.Resource, "resource", "", "audience of the tokens")
	flags.StringVar(&o.Listen, "listen", "", "address for TLS")
	flags.StringVar(&o.ListenPlain, "listen-plain", "", "address of proxy and admin interface")
	daemon := flags.Bool("daemon", false, "do not end when standard input does")
	flags.Func("key", "VAULT/NAME or HSM:VAULT/NAME: make this key", func(s string) error {
		keys = append(keys, s)
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if *daemon {
		stdin = nil
	}
	if err := serve(o, keys, stdin, stdout); err != nil {
		fmt.Fprintln(stderr, "akvtest:", err)
		return 1
	}
	return 0
}

func serve(o Options, keys []string, stdin io.Reader, stdout io.Writer) (err error) {
	if o.Dir == "" {
		return errors.New("--dir is needed")
	}
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return err
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s, err := Start(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	ready := Ready{Admin: s.ProxyURL(), CAFile: s.caFile, Env: pairs(s.Env()), Identity: pairs(s.IdentityEnv()), Keys: make(map[string]string)}
	for _, k := range keys {
		if ready.Keys[k], err = s.makeKey(k); err != nil {
			return fmt.Errorf("--key %s: %w", k, err)
		}
	}
	if err := ready.write(o.Dir, s.Env()); err != nil {
		return err
	}
	if err := json.NewEncoder(stdout).Encode(ready); err != nil {
		return err
	}
	ended := make(chan struct{})
	if stdin != nil {
		go func() {
			_, _ = io.Copy(io.Discard, stdin)
			close(ended)
		}()
	}
	select {
	case <-ctx.Done():
	case <-ended:
	}
	return nil
}

// makeKey makes VAULT/NAME or HSM:VAULT/NAME and returns its identifier.
func (s *Server) makeKey(text string) (string, error) {
	place, name, ok := strings.Cut(text, "/")
	if !ok || name == "" {
		return "", errors.New("it is not VAULT/NAME")
	}
	spec, suffix := KeySpec{}, s.o.Suffix
	label, isHSM := strings.CutPrefix(place, "HSM:")
	if isHSM {
		spec.Type, suffix = OctHSM, s.o.HSMSuffix
	}
	v := s.vault(label + "." + suffix)
	if v == nil {
		v = s.addVault(label + "." + suffix)
	}
	if _, err := v.CreateKey(name, spec); err != nil {
		return "", err
	}
	return v.KeyID(name), nil
}

func (r Ready) write(dir string, env []string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "ready.json"), append(text, '\n'), 0o600); err != nil {
		return err
	}
	var b strings.Builder
	for _, line := range append(env, "AKVTEST_ADMIN="+r.Admin+"/admin") {
		name, value, _ := strings.Cut(line, "=")
		fmt.Fprintf(&b, "export %s='%s'\n", name, value)
	}
	return os.WriteFile(filepath.Join(dir, "env"), []byte(b.String()), 0o600)
}

func pairs(env []string) map[string]string {
	m := make(map[string]string)
	for _, line := range env {
		name, value, _ := strings.Cut(line, "=")
		m[name] = value
	}
	return m
}
