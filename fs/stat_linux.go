package fs

import (
	"syscall"

	"github.com/akvfs/akvfs/fs/store"
)

// setCounts sets the fields whose types differ between machines.
func setCounts(st *syscall.Stat_t, a store.Attr) {
	set(&st.Nlink, a.Nlink)
	set(&st.Blksize, a.Blksize)
}

func set[T, V int32 | int64 | uint32 | uint64](field *T, v V) { *field = T(v) }
