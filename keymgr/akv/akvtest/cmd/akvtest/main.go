// Command akvtest is a test cloud (key vault, directory, managed identity) for
// tests of programs that use Azure Key Vault. See akvtest.Main for its flags
// and the comment of acts in admin.go for what can be done to it while it runs.
package main

import (
	"os"

	"github.com/akvfs/akvfs/keymgr/akv/akvtest"
)

func main() {
	os.Exit(akvtest.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
