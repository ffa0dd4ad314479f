package store

import "golang.org/x/sys/unix"

// Advisor is a File that takes hints.
type Advisor interface {
	// WillNeed says that so many bytes from off on will be read soon. It does
	// not wait, and a hint that cannot be followed is no error.
	WillNeed(off, length int64)
}

var _ Advisor = (*diskFile)(nil)

// WillNeed is posix_fadvise(POSIX_FADV_WILLNEED).
func (f *diskFile) WillNeed(off, length int64) {
	_ = f.call("fadvise", func(fd int) error { return unix.Fadvise(fd, off, length, unix.FADV_WILLNEED) })
}

// Forgetter is a File whose content can be dropped from the page cache.
type Forgetter interface {
	// Forget has what is read next come from the disk, as far as it is durable
	// already and nobody has it mapped. It is a hint like WillNeed.
	Forget()
}

var _ Forgetter = (*diskFile)(nil)

// Forget is posix_fadvise(POSIX_FADV_DONTNEED) of the whole file.
func (f *diskFile) Forget() {
	_ = f.call("fadvise", func(fd int) error { return unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED) })
}
