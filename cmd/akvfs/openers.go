package main

import (
	"github.com/akvfs/akvfs/keymgr"
	"github.com/akvfs/akvfs/keymgr/akv"
	"github.com/akvfs/akvfs/keymgr/file"
)

// openers are the key providers that this program has, by scheme. Those of a
// vault go by the environment as it is now, before it forgets its secrets.
func openers() keymgr.Openers {
	vault := akv.Remembering()
	return keymgr.Openers{"https": vault, "http": vault, file.Scheme: file.OpenProvider}
}
