package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"

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
	fmt.Fprint(tty, question)
	type answer struct {
		secret []byte
		err    error
	}
	answered := make(chan answer, 1)
	go func() {
		secret, err := term.ReadPassword(fd)
		answered <- answer{secret, err}
	}()
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

// trimLine is a line without its end.
func trimLine(data []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r"))
}
