package volume

import (
	"errors"
	"os"
	"path"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/store"
)

// probeName is a file to try sizes on, where the store has none without names.
const probeName = MetaDir + "/probe"

// SizeLimit is the largest plaintext size that a file of a volume in st can
// have. It makes a file without a name to find out.
func SizeLimit(st store.FS) (int64, error) { return sizeLimit(st) }

// sizeLimit is the largest plaintext size whose backing file the store can
// have. What is larger must be refused to whoever asks for it: once it is in
// the journal it can never be brought home.
func sizeLimit(st store.FS) (limit int64, err error) {
	f, err := openProbe(st)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for _, size := range largest() {
		err := f.Truncate(size)
		if err == nil {
			return plainLimit(size), nil
		}
		if !errors.Is(err, syscall.EFBIG) && !errors.Is(err, syscall.EINVAL) {
			return 0, err
		}
	}
	return 0, syscall.EFBIG
}

// largest are backing sizes to try: all that the format knows, ext4's limit,
// and then whatever there may be.
func largest() []int64 {
	sizes := []int64{format.BackingSize(format.MaxSize), (1<<32 - 1) * 4096}
	for size := int64(1) << 43; size > 1<<20; size /= 2 {
		sizes = append(sizes, size-1)
	}
	return sizes
}

// plainLimit is the largest plaintext size whose backing file has at most a size.
func plainLimit(backing int64) int64 {
	low, high := int64(0), format.MaxSize+1 // low fits, high does not
	for high-low > 1 {
		middle := low + (high-low)/2
		if format.BackingSize(middle) <= backing {
			low = middle
		} else {
			high = middle
		}
	}
	return low
}

func openProbe(st store.FS) (store.File, error) {
	f, err := st.OpenFile(path.Dir(probeName), os.O_RDWR|unix.O_TMPFILE, 0o600)
	if !errors.Is(err, syscall.EOPNOTSUPP) && !errors.Is(err, syscall.EISDIR) {
		return f, err
	}
	if f, err = st.OpenFile(probeName, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, err
	}
	if err := st.Unlink(probeName); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
