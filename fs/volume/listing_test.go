package volume

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/store"
)

// TestLargeDirectories: a directory is listed whole, whatever its size, by
// several at a time too; what is no entry of the tree is left out and told of;
// and lookups find what was listed.
func TestLargeDirectories(t *testing.T) {
	for _, n := range []int{0, 1, namesEach, namesEach + 1, 5*namesEach + 3, namesKept + 1} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			keys := newTestKeys(t, 31)
			st := store.NewMem(store.Options{})
			create(t, st, keys, NamesEncrypted, 1<<20)
			v := open(t, st, keys)
			var want []string
			for i := range n {
				name := fmt.Sprint("file", i)
				if i%50 == 0 {
					name += strings.Repeat("-long", 45)
				}
				must(t, v.Mknod(name, unix.S_IFREG|0o600, 0, Owner{}))
				want = append(want, name)
			}
			slices.Sort(want)
			strangers := n / 100
			for i := range strangers {
				must(t, st.Mkdir(fmt.Sprint("stranger", i), 0o700))
			}
			const readers = 4
			var reading sync.WaitGroup
			for range readers {
				reading.Go(func() {
					if got := list(t, v, "."); !slices.Equal(got, want) {
						t.Errorf("%d entries of %d, or others", len(got), len(want))
					}
				})
			}
			reading.Wait()
			if found := v.Stats().IntegrityErrors; found != uint64(readers*strangers) {
				t.Errorf("%d strange names were told of, not %d", found, readers*strangers)
			}
			for _, name := range want {
				_, err := v.Stat(name)
				must(t, err)
			}
			must(t, v.Close())
		})
	}
}
