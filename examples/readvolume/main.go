// Readvolume lists what is in an akvfs volume, or in a snapshot of one, with
// the SHA-256 of each file. Nothing is mounted and nothing is written.
//
//	go run ./examples/readvolume BACKING
package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	iofs "io/fs"
	"log"
	"os"

	"github.com/akvfs/akvfs/fs"
	"github.com/akvfs/akvfs/keymgr"
	"github.com/akvfs/akvfs/keymgr/akv"
	"github.com/akvfs/akvfs/keymgr/file"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: readvolume BACKING")
	}
	openers := keymgr.Openers{"https": akv.Open, file.Scheme: file.OpenProvider}
	vol, err := fs.Open(context.Background(), os.Args[1], fs.Options{Openers: openers})
	if err != nil {
		log.Fatal(err)
	}
	defer vol.Close()
	err = iofs.WalkDir(vol, ".", func(name string, d iofs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := vol.ReadFile(name)
		fmt.Printf("%x  %s\n", sha256.Sum256(data), name)
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
}
