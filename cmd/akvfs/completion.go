package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newCompletion(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print a completion script for a shell",
		Example: `  akvfs completion bash >/etc/bash_completion.d/akvfs
  akvfs completion zsh >"${fpath[1]}/_akvfs"
  akvfs completion fish >~/.config/fish/completions/akvfs.fish`,
		ValidArgs: []string{"bash", "zsh", "fish"},
		Args:      args("SHELL"),
		RunE: func(cmd *cobra.Command, given []string) error {
			root := cmd.Root()
			switch given[0] {
			case "bash":
				return root.GenBashCompletionV2(a.out, true)
			case "zsh":
				return root.GenZshCompletion(a.out)
			case "fish":
				return root.GenFishCompletion(a.out, true)
			}
			return &usageError{cmd.CommandPath(), fmt.Errorf("no completion for %q, only for bash, zsh and fish", given[0])}
		},
	}
}
