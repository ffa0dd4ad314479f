package main

import (
	"strings"

	"github.com/spf13/cobra"
)

func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND...]",
		Short:   "Show help on a command",
		Example: "  akvfs help mount\n  akvfs help dev-key create",
		RunE: func(cmd *cobra.Command, names []string) error {
			found, rest, err := cmd.Root().Find(names)
			if err == nil && len(rest) > 0 {
				err = noArgs(found, rest)
			}
			if err != nil {
				text := strings.ReplaceAll(err.Error(), "\n", " ")
				return &usageError{cmd.Root().CommandPath(), errorText(text)}
			}
			found.InitDefaultHelpFlag()
			return found.Help()
		},
	}
}

// errorText is an error of a fixed text.
type errorText string

func (e errorText) Error() string { return string(e) }
