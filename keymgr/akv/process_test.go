package akv

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/akvfs/akvfs/keymgr"
	"github.com/akvfs/akvfs/keymgr/akv/akvtest"
)

// roleVariable makes the test program play another part; see TestMain.
// budgetVariable bounds what it does as a client.
const (
	roleVariable   = "AKV_TEST_ROLE"
	budgetVariable = "AKV_TEST_BUDGET"
)

// TestMain lets the test program be the cloud, or a program that knows nothing
// but its environment.
func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "cloud":
		os.Exit(akvtest.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	case "client":
		os.Exit(client())
	}
	os.Exit(m.Run())
}

// client wraps, unwraps and prints what came of it. Its argument is a key
// identifier; a further one is a wrap to unwrap instead.
func client() int {
	p, err := Open(os.Args[1], keymgr.ProviderOptions{})
	if err == nil {
		err = work(p, os.Args[2:])
	}
	if err != nil {
		fmt.Println("failed:", err)
		return 1
	}
	return 0
}

func work(p keymgr.Provider, args []string) error {
	ctx := context.Background()
	if text := os.Getenv(budgetVariable); text != "" {
		budget, err := time.ParseDuration(text)
		if err != nil {
			return err
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, budget)
		defer cancel()
	}
	if len(args) == 0 {
		w, err := p.Wrap(ctx, master)
		if err != nil {
			return err
		}
		text, err := json.Marshal(w)
		fmt.Println(base64.StdEncoding.EncodeToString(text))
		return err
	}
	text, err := base64.StdEncoding.DecodeString(args[0])
	if err != nil {
		return err
	}
	var w keymgr.Wrapped
	if err := json.Unmarshal(text, &w); err != nil {
		return err
	}
	plain, err := p.Unwrap(ctx, w)
	if err == nil && !bytes.Equal(plain, master) {
		err = fmt.Errorf("unwrapped %d other bytes", len(plain))
	}
	return err
}

// runClient runs the client with an environment of just what it is given.
func runClient(t *testing.T, env []string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append([]string{roleVariable + "=client", "PATH=/nonexistent", "HOME=/nonexistent"}, env...)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// startCloud runs the cloud as another process, until the test ends.
func startCloud(t *testing.T, args ...string) akvtest.Ready {
	t.Helper()
	cmd := exec.Command(os.Args[0], append([]string{"--dir", t.TempDir()}, args...)...)
	cmd.Env = append(os.Environ(), roleVariable+"=cloud")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		must(t, stdin.Close())
		if _, err := io.Copy(io.Discard, stdout); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	must(t, err)
	var ready akvtest.Ready
	must(t, json.Unmarshal(line, &ready))
	return ready
}

func lines(env map[string]string) []string {
	var all []string
	for name, value := range env {
		all = append(all, name+"="+value)
	}
	slices.Sort(all)
	return all
}

// TestProcesses: cloud and client in processes of their own, which know each
// other by environment variables alone: a proxy, a CA file, a client secret.
// The names are those of the public cloud.
func TestProcesses(t *testing.T) {
	t.Parallel()
	ready := startCloud(t, "--key", "kv-other/kek", "--key", "HSM:hsm-other/kek")
	admin := akvtest.Admin{URL: ready.Admin}
	env := lines(ready.Env)
	for _, name := range []string{"kv-other/kek", "HSM:hsm-other/kek"} {
		keyID := ready.Keys[name]
		if !strings.HasSuffix(keyID, ".azure.net/keys/kek") {
			t.Fatalf("%s is %q", name, keyID)
		}
		wrapped, err := runClient(t, env, keyID)
		must2(t, err, wrapped)
		out, err := runClient(t, env, keyID, wrapped)
		must2(t, err, out)
	}
	keyID := ready.Keys["kv-other/kek"]
	wrapped, err := runClient(t, env, keyID)
	must2(t, err, wrapped)
	for _, c := range []struct {
		name string
		act  []string
		says string
		undo []string
	}{
		{"disabled", []string{"key/disable", "vault", "kv-other", "key", "kek"}, "is revoked (KeyDisabled)", []string{"key/enable", "vault", "kv-other", "key", "kek"}},
		{"expired", []string{"key/expires", "vault", "kv-other", "key", "kek", "at", "-1m"}, "is revoked (KeyExpired)", []string{"key/expires", "vault", "kv-other", "key", "kek"}},
		{"deleted", []string{"key/delete", "vault", "kv-other", "key", "kek"}, "is revoked (KeyDeleted)", []string{"key/recover", "vault", "kv-other", "key", "kek"}},
		{"denied", []string{"vault/deny", "vault", "kv-other", "code", "ForbiddenByRbac"}, "is revoked (ForbiddenByRbac)", []string{"vault/allow", "vault", "kv-other"}},
		{"wrong certificate", []string{"certificate", "mode", "unknown-ca"}, "is unreachable (TLSFailure)", []string{"certificate"}},
		{"expired secret", []string{"secret/expire"}, "refuses our credentials (AADSTS7000222)", []string{"secret/add", "value", ready.Env["AZURE_CLIENT_SECRET"]}},
	} {
		_, err := admin.Do(t.Context(), c.act[0], c.act[1:]...)
		must(t, err)
		if out, err := runClient(t, env, keyID, wrapped); err == nil || !strings.Contains(out, c.says) {
			t.Errorf("%s: %s, %v", c.name, out, err)
		}
		_, err = admin.Do(t.Context(), c.undo[0], c.undo[1:]...)
		must(t, err)
		out, err := runClient(t, env, keyID, wrapped)
		must2(t, err, out)
	}
}

// TestProxy: a host that the proxy does not know, a proxy that is not there,
// and trust that the environment does not give.
func TestProxy(t *testing.T) {
	t.Parallel()
	ready := startCloud(t, "--key", "kv-other/kek")
	with := func(change ...string) []string { return append(lines(ready.Env), change...) }
	for name, c := range map[string]struct {
		env   []string
		keyID string
		says  string
	}{
		"unknown vault": {with(), "https://kv-unknown.vault.azure.net/keys/kek", "is unreachable (NetworkFailure)"},
		"no proxy":      {with("HTTPS_PROXY=http://127.0.0.1:1"), ready.Keys["kv-other/kek"], "is unreachable (ConnectionRefused)"},
		"no trust":      {with("AKVFS_CA_FILE="), ready.Keys["kv-other/kek"], "is unreachable (TLSFailure)"},
	} {
		// The client's own budget is the default one, which is too long here.
		out, err := runClient(t, append(c.env, budgetVariable+"=2s"), c.keyID)
		if err == nil || !strings.Contains(out, c.says) {
			t.Errorf("%s: %s, %v", name, out, err)
		}
	}
	out, err := runClient(t, with("AKVFS_CA_FILE=", "SSL_CERT_FILE="+ready.CAFile), ready.Keys["kv-other/kek"])
	must2(t, err, out)
}

// TestPrivateCloudProcess is TestProcesses with a private cloud's names.
func TestPrivateCloudProcess(t *testing.T) {
	t.Parallel()
	ready := startCloud(t, "--suffix", "vault.stack.example:8443", "--authority", "login.stack.example", "--key", "kv1/kek")
	keyID := ready.Keys["kv1/kek"]
	if keyID != "https://kv1.vault.stack.example:8443/keys/kek" {
		t.Fatal(keyID)
	}
	out, err := runClient(t, lines(ready.Env), keyID)
	must2(t, err, out)
}

// must2 fails the test with what a process has printed.
func must2(t *testing.T, err error, out string) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}
