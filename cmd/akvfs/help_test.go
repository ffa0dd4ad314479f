package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/akvfs/akvfs/fs/volume"
)

// execute runs a command line in this process.
func execute(args ...string) result {
	var out, stderr bytes.Buffer
	a := &app{out: &out, err: &stderr, getenv: func(string) string { return "" }}
	code := a.run(context.Background(), args)
	return result{code, out.String(), stderr.String()}
}

// commands lists every command but cobra's hidden ones.
func commands(cmd *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{cmd}
	for _, c := range cmd.Commands() {
		if !c.Hidden {
			all = append(all, commands(c)...)
		}
	}
	return all
}

// words are a command's name as typed after "akvfs".
func words(cmd *cobra.Command) []string { return strings.Fields(cmd.CommandPath())[1:] }

// The names are part of the contract with scripts.
func TestCommandNames(t *testing.T) {
	var got []string
	for _, cmd := range commands(newRoot(&app{})) {
		got = append(got, strings.Join(words(cmd), " "))
	}
	want := []string{
		"", "completion", "dev-key", "dev-key create", "dev-key delete", "dev-key disable", "dev-key enable",
		"dev-key expire", "dev-key recover", "dev-key rotate", "dev-key show", "du", "export", "help", "init",
		"key", "key add", "key check", "key list", "key remove", "key rotate", "key usage", "lock", "ls",
		"master-key", "master-key list", "master-key rotate", "mount", "stat", "status", "unlock", "unmount", "version", "cat",
		"project", "project configure", "project update", "project show", "project list", "project disable", "project rotate-credential",
		"cluster", "cluster enable", "cluster disable", "cluster list", "cluster show", "cluster mount", "cluster unmount", "serve",
	}
	have := map[string]bool{}
	for _, name := range got {
		have[name] = true
	}
	for _, name := range want {
		if !have[name] {
			t.Errorf("akvfs %s is missing", name)
		}
	}
}

// Every command explains itself, with examples that its own parser accepts.
func TestHelp(t *testing.T) {
	for _, cmd := range commands(newRoot(&app{})) {
		t.Run(cmd.CommandPath(), func(t *testing.T) {
			if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") || cmd.Example == "" {
				t.Errorf("short help %q, examples %q", cmd.Short, cmd.Example)
			}
			for line := range strings.SplitSeq(cmd.Example, "\n") {
				checkExample(t, line)
			}
			byFlag := execute(append(words(cmd), "--help")...)
			byName := execute(append([]string{"help"}, words(cmd)...)...)
			if byFlag.code != 0 || byFlag.err != "" || !strings.Contains(byFlag.out, "Examples:\n") {
				t.Errorf("--help: %+v", byFlag)
			}
			if byName.out != byFlag.out || byName.code != 0 {
				t.Errorf("help says\n%s--help says\n%s", byName.out, byFlag.out)
			}
			for line := range strings.SplitSeq(byFlag.out, "\n") {
				if len(line) > 160 {
					t.Errorf("a line of %d bytes: %q", len(line), line)
				}
			}
		})
	}
}

// checkExample parses an example without running it.
func checkExample(t *testing.T, line string) {
	t.Helper()
	if shell := strings.IndexAny(line, "<>|"); shell >= 0 {
		line = line[:shell]
	}
	args := strings.Fields(line)
	if len(args) == 0 || args[0] != "akvfs" {
		t.Errorf("no example of akvfs: %q", line)
		return
	}
	root := newRoot(&app{})
	cmd, rest, err := root.Find(args[1:])
	if err == nil {
		err = cmd.ParseFlags(rest)
	}
	if err == nil && cmd.Args != nil {
		err = cmd.Args(cmd, cmd.Flags().Args())
	}
	if err != nil {
		t.Errorf("%q: %v", line, err)
	}
}

func TestHelpNamesOptions(t *testing.T) {
	text := execute("help", "mount").out
	for _, o := range options() {
		if o.help != "" && !strings.Contains(text, "  "+o.form()+" ") {
			t.Errorf("%q is not explained", o.form())
		}
	}
}

func TestWrongUsage(t *testing.T) {
	for _, c := range []struct {
		args string
		says string
	}{
		{"", "no command was given\nSee `akvfs --help`."},
		{"moutn", `unknown command "moutn"; did you mean "mount"`},
		{"frobnicate", `unknown command "frobnicate"` + "\nSee `akvfs --help`."},
		{"--colour", "unknown flag: --colour\nSee `akvfs --help`."},
		{"help frobnicate", "unknown"},
		{"help mount now", `unexpected argument "now"`},
		{"dev-key", "no command was given\nSee `akvfs dev-key --help`."},
		{"dev-key show", "PATH is missing\nSee `akvfs dev-key show --help`."},
		{"dev-key frobnicate", `unknown command "frobnicate"` + "\nSee `akvfs dev-key --help`."},
		{"version now", `unexpected argument "now"`},
		{"completion", "SHELL is missing"},
		{"completion tcsh", `no completion for "tcsh"`},
		{"status a b", `unexpected argument "b"`},
		{"status --json=maybe", "invalid argument"},
	} {
		r := execute(strings.Fields(c.args)...)
		if r.code != 2 || !strings.HasPrefix(r.err, "akvfs: ") || !strings.Contains(r.err, c.says) || r.out != "" {
			t.Errorf("akvfs %s: %+v", c.args, r)
		}
	}
}

func TestVersion(t *testing.T) {
	w := newWorld(t)
	if out := w.ok("version").out; !strings.HasPrefix(out, "akvfs 1.2.3-test (volume format 1, go") {
		t.Error(out)
	}
	var v versionInfo
	w.must(json.Unmarshal([]byte(w.ok("version", "--json").out), &v))
	if v.Version != "1.2.3-test" || v.Format != volume.FormatVersion {
		t.Errorf("%+v", v)
	}
	if buildVersion() == "" {
		t.Error("a build without a version says none")
	}
}

// The scripts are good shell, and offer commands, flags and directories.
func TestCompletion(t *testing.T) {
	w := newWorld(t)
	for _, shell := range []string{"bash", "zsh", "fish"} {
		script := w.ok("completion", shell).out
		if !strings.Contains(script, "akvfs") {
			t.Errorf("%s: %q", shell, script)
		}
		if shell == "bash" {
			cmd := exec.Command("bash", "-n")
			cmd.Stdin = strings.NewReader(script)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("bash -n: %v\n%s", err, out)
			}
		}
	}
	if out := w.ok("__complete", "mo").out; !strings.HasPrefix(out, "mount\t") {
		t.Errorf("mo completes to %q", out)
	}
	if out := w.ok("__complete", "mount", "--fore").out; !strings.HasPrefix(out, "--foreground\t") {
		t.Errorf("--fore completes to %q", out)
	}
	if out := w.ok("__complete", "mount", "").out; !strings.Contains(out, ":16") {
		t.Errorf("a backing directory completes to %q", out)
	}
}

// No word of the command line takes a secret.
func TestNoSecretFlags(t *testing.T) {
	for _, cmd := range commands(newRoot(&app{})) {
		flags := cmd.Flags().FlagUsages()
		for _, word := range []string{"--secret", "--password", "--token"} {
			// A file, or the name of a systemd credential, is no secret.
			rest := strings.NewReplacer(word+"-file", "", word+"-credential", "").Replace(flags)
			if strings.Contains(rest, word) {
				t.Errorf("%s has %s", cmd.CommandPath(), word)
			}
		}
	}
}

func TestOutputFails(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	w := newWorld(t)
	for _, args := range [][]string{{"version"}, {"version", "--json"}, {"status"}, {"dev-key", "show", w.store}} {
		cmd := w.command(args...)
		cmd.Stdout = full
		if err := cmd.Run(); err == nil || cmd.ProcessState.ExitCode() != 1 {
			t.Errorf("akvfs %v on a full disk: %v", args, err)
		}
	}
}
