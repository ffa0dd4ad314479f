package format

const (
	// PageSize is the unit of the format and of every transfer, in bytes.
	PageSize = 4096
	// BlockSize is a block's plaintext, and its ciphertext, in bytes.
	BlockSize = PageSize
	// GroupBlocks is how many blocks one tag page describes.
	GroupBlocks = 101
	// MaxSize is the largest plaintext size in bytes, chosen so that no
	// offset in the backing file can overflow an int64.
	MaxSize = int64(1) << 62

	groupPages = GroupBlocks + 1
)

// Blocks is the number of blocks of a file of size plaintext bytes.
func Blocks(size int64) int64 { return (size + BlockSize - 1) / BlockSize }

// Group is the group of a block.
func Group(block int64) int64 { return block / GroupBlocks }

// LastGroup is the group in which a file of size plaintext bytes ends, and -1
// for an empty file.
func LastGroup(size int64) int64 {
	if size == 0 {
		return -1
	}
	return Group(Blocks(size) - 1)
}

// BlockOffset is where a block lies in the backing file, in bytes.
func BlockOffset(block int64) int64 {
	return (2 + Group(block)*groupPages + block%GroupBlocks) * PageSize
}

// TagPageOffset is where a group's tag page lies in the backing file, in bytes.
func TagPageOffset(group int64) int64 {
	return (1 + group*groupPages) * PageSize
}

// BackingSize is the size of the backing file, in bytes, for a file of size
// plaintext bytes that has a header. It grows strictly with size: a file that
// is appended to is never cut.
func BackingSize(size int64) int64 {
	if size == 0 {
		return PageSize
	}
	return PagesEnd(size) + (size - (Blocks(size)-1)*BlockSize)
}

// PagesEnd is where the last page of a file of size plaintext bytes ends in
// the backing file: what comes after it is a hole.
func PagesEnd(size int64) int64 {
	if size == 0 {
		return PageSize
	}
	return BlockOffset(Blocks(size)-1) + PageSize
}

// PlainSize is the plaintext size that a backing file of the given size
// stands for. ok is false when no file of this format has that size; size is
// then that of the whole blocks before the odd end.
func PlainSize(backing int64) (size int64, ok bool) {
	if backing <= PageSize {
		return 0, backing == 0 || backing == PageSize
	}
	pages, used := (backing-1)/PageSize, (backing-1)%PageSize+1
	groups, rest := (pages-1)/groupPages, (pages-1)%groupPages
	blocks := groups * GroupBlocks
	if rest > 0 {
		blocks += rest - 1
	}
	if blocks == 0 {
		return 0, false
	}
	return (blocks-1)*BlockSize + used, rest != 1
}
