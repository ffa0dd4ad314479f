package main

import (
	"bytes"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

// What is zeroed is the secrets' values, all of them and nothing else.
func TestSecretSpans(t *testing.T) {
	names := append([]string{"HOME", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET_PATH", "X_AZURE_CLIENT_SECRET", ""}, secretVariables...)
	rapid.Check(t, func(t *rapid.T) {
		var environ, want []byte
		for range rapid.IntRange(0, 8).Draw(t, "variables") {
			name := rapid.SampledFrom(names).Draw(t, "name")
			value := rapid.StringMatching(`[a-zA-Z=]{0,12}`).Draw(t, "value")
			environ = append(environ, name+"="+value+"\x00"...)
			for _, secret := range secretVariables {
				if name == secret {
					value = string(make([]byte, len(value)))
				}
			}
			want = append(want, name+"="+value+"\x00"...)
		}
		got := bytes.Clone(environ)
		for _, s := range secretSpans(environ) {
			clear(got[s.offset : s.offset+s.length])
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("%q became %q", environ, got)
		}
	})
}

// Nobody can read the client secret off the daemon's environment.
func TestSecretsLeaveTheEnvironment(t *testing.T) {
	const secret = "do-not-show-this-to-anybody"
	for _, mode := range []string{"background", "foreground"} {
		t.Run(mode, func(t *testing.T) {
			w := newVolume(t)
			w.env = append(w.env, "AZURE_CLIENT_SECRET="+secret, "AZURE_PASSWORD="+secret, "AZURE_CLIENT_ID=visible")
			if mode == "background" {
				w.mount()
			} else {
				cmd := w.command("mount", w.backing, w.mountpoint, "--foreground")
				w.must(cmd.Start())
				defer cmd.Wait()
				eventually(t, "mounted", func() bool { return w.mounted(w.mountpoint) })
			}
			environ := w.read(join("/proc", strconv.Itoa(w.status(w.backing).PID), "environ"))
			if bytes.Contains([]byte(environ), []byte(secret)) {
				t.Error("the environment shows the secret")
			}
			if !bytes.Contains([]byte(environ), []byte("\x00AZURE_CLIENT_ID=visible\x00")) {
				t.Error("the environment does not show what is no secret")
			}
			w.unmount()
		})
	}
}
