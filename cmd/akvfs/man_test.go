package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Every command has a page, which groff sets without a complaint.
func TestManPages(t *testing.T) {
	w := newWorld(t)
	dir := w.mkdir(join(w.dir, "man"))
	w.ok("man", dir, "--date", "2026-11-26")
	pages := map[string]bool{}
	entries, err := os.ReadDir(dir)
	w.must(err)
	for _, e := range entries {
		pages[e.Name()] = true
		text := w.read(join(dir, e.Name()))
		for _, head := range []string{`.TH "`, `"2026-11-26"`, "\n.SH NAME\n", ` \- `, "\n.SH SYNOPSIS\n", "\n.SH EXAMPLES\n", "\n.SH SEE ALSO\n"} {
			if !strings.Contains(text, head) {
				t.Errorf("%s: %q is missing", e.Name(), head)
			}
		}
		out, err := exec.Command("groff", "-man", "-Tutf8", "-ww", "-z", join(dir, e.Name())).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", e.Name(), err, out)
		}
	}
	for _, cmd := range commands(newRoot(&app{})) {
		if name := strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".1"; !pages[name] {
			t.Errorf("%s is missing", name)
		}
	}
	if !pages["mount.akvfs.8"] {
		t.Error("mount.akvfs.8 is missing")
	}
	w.refused(1, "no such file", "man", join(w.dir, "missing"))
}

func TestEscape(t *testing.T) {
	for text, want := range map[string]string{
		"plain": "plain", "--flag": `\-\-flag`, `a\b`: `a\eb`, ".dot": `\&.dot`, "'quote": `\&'quote`, "x-…": `x\-...`,
	} {
		if got := escape(text); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}
