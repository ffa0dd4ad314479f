package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os/exec"
	"strings"
	"testing"
)

// What a child tells, or fails to tell, is what its parent ends with.
func TestConclude(t *testing.T) {
	told := func(v verdict) []byte {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	for _, c := range []struct {
		name, script string
		data         []byte
		noise        string // what was drained of its standard error
		code         int
		says         string
	}{
		{"success", "exit 0", told(verdict{0, ""}), "", 0, ""},
		{"refusal", "exit 11", told(verdict{11, "akvfs: revoked\nEnable it.\n"}), "", 11, "akvfs: revoked\nEnable it.\n"},
		{"refusal by fusermount3", "exit 1", told(verdict{1, "akvfs: refused\n"}), "fusermount3: no\n", 1, "akvfs: refused\nfusermount3: no\n"},
		{"crash", "exit 2", nil, "panic: boom\n", 1, "exit status 2)\npanic: boom\n"},
		{"killed", "kill -9 $$", nil, "", 1, "signal: killed"},
		{"nonsense", "exit 0", []byte("{"), "", 1, "ended before the volume was mounted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out, noise bytes.Buffer
			a := &app{out: &out, err: &out}
			cmd := exec.Command("sh", "-c", c.script)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			drained := make(chan struct{})
			close(drained)
			noise.WriteString(c.noise)
			err := a.conclude(cmd, c.data, drained, &noise)
			code := 0
			var reported *reportedError
			if errors.As(err, &reported) {
				code = reported.code
			} else if err != nil {
				code = report(&out, err)
			}
			if code != c.code || !strings.Contains(out.String(), c.says) {
				t.Errorf("exit code %d, %q", code, out.String())
			}
		})
	}
}

func TestLimited(t *testing.T) {
	var b bytes.Buffer
	l := &limited{w: &b, left: 5}
	for _, s := range []string{"abc", "def", "ghi"} {
		if n, err := l.Write([]byte(s)); n != 3 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	if b.String() != "abcde" {
		t.Errorf("%q", b.String())
	}
}

func TestInheritedChild(t *testing.T) {
	for _, value := range []string{"", "x", "-1", "2"} {
		t.Setenv(childVariable, value)
		if f := inheritedChild(); f != nil {
			t.Errorf("%q is a child's", value)
		}
	}
}
