package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// askSecret asks for a secret on the terminal, without echo.
func (a *app) askSecret(ctx context.Context, cmd *cobra.Command, question string) ([]byte, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, &usageError{cmd.CommandPath(), errors.New("the client secret is missing, and there is no terminal to ask on: give it by --secret-file or --secret-credential")}
	}
	defer tty.Close()
	fd := int(tty.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return nil, err
	}
	type answer struct {
		secret []byte
		err    error
	}
	answered := make(chan answer, 1)
	go func() {
		secret, err := term.ReadPassword(fd)
		answered <- answer{secret, err}
	}()
	untilQuiet(fd, before)
	fmt.Fprint(tty, question)
	select {
	case got := <-answered:
		fmt.Fprintln(tty)
		if got.err == nil && len(got.secret) == 0 {
			got.err = &usageError{cmd.CommandPath(), errors.New("the client secret is empty")}
		}
		return got.secret, got.err
	case <-ctx.Done():
		// Who interrupts is not to be left with a terminal that echoes nothing.
		fmt.Fprintln(tty)
		return nil, errors.Join(ctx.Err(), term.Restore(fd, before))
	}
}

// untilQuiet waits until a terminal has left a state: until ReadPassword has
// turned the echo off, which whoever is interrupted before puts back too early.
func untilQuiet(fd int, before *term.State) {
	const patience = time.Second // where the echo was off before
	for began := time.Now(); time.Since(began) < patience; time.Sleep(time.Millisecond) {
		if now, err := term.GetState(fd); err != nil || *now != *before {
			return
		}
	}
}

// trimLine is a line without its end.
func trimLine(data []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r"))
}
