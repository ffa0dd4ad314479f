package fusefs

import (
	"log/slog"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
)

// TestDropWhileMade: a file that is being made is open before go-fuse knows its
// node; a lock then leaves it alone.
func TestDropWhileMade(t *testing.T) {
	tr := newTree(nil, slog.New(slog.DiscardHandler))
	f := tr.newNode(&store.Attr{Mode: unix.S_IFREG}).(*file)
	tr.opened(f.file)
	if err := tr.dropNameless(); err != nil {
		t.Error(err)
	}
}
