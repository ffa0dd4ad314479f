package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"strings"

	"github.com/akvfs/akvfs/keymgr/akv/akvtest"
)

// azure is the program `az` as far as the runbooks use it, before a test cloud.
func azure(args []string) int {
	var words []string
	flags := map[string]string{}
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "--append":
		case strings.HasPrefix(args[i], "--") && i+1 < len(args):
			flags[args[i]] = args[i+1]
			i++
		default:
			words = append(words, args[i])
		}
	}
	key := []string{"vault", flags["--vault-name"], "key", flags["--name"]}
	secret := rand.Text()
	var err error
	do := func(what string, pairs ...string) {
		_, err = akvtest.Admin{URL: os.Getenv("AKVTEST_ADMIN")}.Do(context.Background(), what, pairs...)
	}
	switch command := strings.Join(words, " "); {
	case command == "keyvault key rotate":
		do("key/rotate", key...)
	case command == "keyvault key set-attributes" && flags["--enabled"] == "false":
		do("key/disable", key...)
	case command == "keyvault key set-attributes" && flags["--enabled"] == "true":
		do("key/enable", key...)
	case command == "ad app credential reset" && flags["--query"] == "password":
		do("secret/add", "client", flags["--id"], "value", secret)
		fmt.Println(secret)
	default:
		err = fmt.Errorf("no such command here: %q", args)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
