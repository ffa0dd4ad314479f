package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newMan writes the manual for packages. The pages are made of the help texts,
// which are plain text with indented lines that stay as they are: cobra's own
// generator takes them for Markdown, and would run those lines together.
func newMan(a *app) *cobra.Command {
	var date string
	cmd := &cobra.Command{
		Use:     "man DIR",
		Hidden:  true,
		Short:   "Write the manual's pages to a directory",
		Example: "  akvfs man ./man --date 2026-11-26",
		Args:    args("DIR"),
		RunE: func(cmd *cobra.Command, given []string) error {
			for _, c := range manPages(cmd.Root()) {
				p := manPage{cmd: c, date: date}
				if err := os.WriteFile(filepath.Join(given[0], p.file()), p.roff(), 0o644); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&date, "date", "", "the `DATE` that the pages bear")
	return cmd
}

// manPages are the commands that have a page: those that people type, and the
// mount helper.
func manPages(cmd *cobra.Command) []*cobra.Command {
	pages := []*cobra.Command{cmd}
	for _, c := range cmd.Commands() {
		if !c.Hidden || c.Name() == helperName {
			pages = append(pages, manPages(c)...)
		}
	}
	return pages
}

// manPage is the page of one command.
type manPage struct {
	cmd  *cobra.Command
	date string
	buf  bytes.Buffer
}

// name is the page's: akvfs-key-rotate.
func (p *manPage) name() string {
	if p.helper() {
		return helperName
	}
	return strings.ReplaceAll(p.cmd.CommandPath(), " ", "-")
}

func (p *manPage) helper() bool { return p.cmd.Name() == helperName }

func (p *manPage) section() string {
	if p.helper() {
		return "8"
	}
	return "1"
}

func (p *manPage) file() string { return p.name() + "." + p.section() }

// roff is the page for man(1).
func (p *manPage) roff() []byte {
	p.cmd.InitDefaultHelpFlag()
	p.line(`.TH "%s" "%s" "%s" "akvfs" "akvfs manual"`, strings.ToUpper(p.name()), p.section(), p.date)
	p.line(".SH NAME")
	p.line(`%s \- %s`, escape(p.name()), escape(lowerFirst(p.cmd.Short)))
	p.line(".SH SYNOPSIS")
	p.line(".B %s", escape(p.synopsis()))
	p.line(".SH DESCRIPTION")
	text := p.cmd.Long
	if text == "" {
		text = p.cmd.Short + "."
	}
	p.prose(text)
	p.options()
	p.commands()
	if p.cmd.Example != "" {
		p.line(".SH EXAMPLES")
		p.asIs(strings.Split(p.cmd.Example, "\n"))
	}
	p.seeAlso()
	return p.buf.Bytes()
}

func (p *manPage) synopsis() string {
	if p.helper() {
		return p.cmd.Use
	}
	return p.cmd.UseLine()
}

func (p *manPage) line(format string, a ...any) { fmt.Fprintf(&p.buf, format+"\n", a...) }

// prose sets text as paragraphs, and lines that begin with a space as they are.
func (p *manPage) prose(text string) {
	var still []string
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(line, " ") {
			still = append(still, line)
			continue
		}
		p.asIs(still)
		still = nil
		if line == "" {
			p.line(".PP")
		} else {
			p.line("%s", escape(line))
		}
	}
	p.asIs(still)
}

// asIs sets lines without filling them.
func (p *manPage) asIs(lines []string) {
	if len(lines) == 0 {
		return
	}
	p.line(".PP\n.nf")
	for _, line := range lines {
		p.line("%s", escape(line))
	}
	p.line(".fi")
}

func (p *manPage) options() {
	p.line(".SH OPTIONS")
	p.cmd.NonInheritedFlags().VisitAll(func(f *pflag.Flag) {
		value, usage := pflag.UnquoteUsage(f)
		words := "--" + f.Name
		if f.Shorthand != "" {
			words = "-" + f.Shorthand + ", " + words
		}
		p.line(".TP")
		p.line(`\fB%s\fR \fI%s\fR`, escape(words), escape(value))
		p.line("%s", escape(usage+defaultText(f)))
	})
}

func defaultText(f *pflag.Flag) string {
	switch f.DefValue {
	case "", "false", "[]", "0", "0s":
		return ""
	}
	return " (default " + f.DefValue + ")"
}

func (p *manPage) commands() {
	subs := manPages(p.cmd)[1:]
	if len(subs) == 0 {
		return
	}
	p.line(".SH COMMANDS")
	for _, c := range subs {
		if c.Parent() != p.cmd {
			continue
		}
		sub := manPage{cmd: c}
		p.line(".TP\n\\fB%s\\fR(%s)", escape(sub.name()), sub.section())
		p.line("%s", escape(c.Short))
	}
}

func (p *manPage) seeAlso() {
	p.line(".SH SEE ALSO")
	var pages []string
	for c := p.cmd.Parent(); c != nil; c = c.Parent() {
		other := manPage{cmd: c}
		pages = append(pages, fmt.Sprintf(`\fB%s\fR(%s)`, escape(other.name()), other.section()))
	}
	if p.helper() {
		pages = append(pages, `\fBmount\fR(8)`, `\fBfstab\fR(5)`)
	}
	p.line("%s", strings.Join(append(pages, "https://github.com/akvfs/akvfs"), ",\n"))
}

// escape keeps text from being taken for requests of roff.
func escape(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", "...", "’", "'").Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		return `\&` + text
	}
	return text
}

// lowerFirst is for the line by which apropos(1) finds a page.
func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}
