package volume

import (
	"os"
	"syscall"
	"testing"

	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/store"
)

func TestPlainLimit(t *testing.T) {
	for _, backing := range []int64{4096, 1 << 20, 1<<44 - 4096, format.BackingSize(format.MaxSize)} {
		limit := plainLimit(backing)
		if got := format.BackingSize(limit); got > backing {
			t.Errorf("%d: %d bytes take %d", backing, limit, got)
		}
		if limit < format.MaxSize && format.BackingSize(limit+1) <= backing {
			t.Errorf("%d: %d is not the most", backing, limit)
		}
	}
}

// TestSizeLimit: no size is taken that the store cannot have, which is 16 TiB
// less a page in memory as on ext4, and the volume closes and opens after it
// was asked for.
func TestSizeLimit(t *testing.T) {
	eachNames(t, func(t *testing.T, st *store.Mem, v *Volume) {
		f, err := v.OpenFile("f", os.O_RDWR|os.O_CREATE, 0o600, Owner{})
		must(t, err)
		most := plainLimit(1<<44 - 4096)
		wantErrno(t, f.Truncate(most+1), syscall.EFBIG)
		_, err = f.WriteAt([]byte("ab"), most-1)
		wantErrno(t, err, syscall.EFBIG)
		must(t, f.Truncate(most))
		_, err = f.WriteAt([]byte("a"), most-1)
		must(t, err)
		must(t, f.Sync(false))
		must(t, f.Close())
	})
}
