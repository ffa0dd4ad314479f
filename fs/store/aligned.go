package store

import "unsafe"

// Alignment is what offset, length and memory address of a direct read or
// write must be multiples of, in bytes. Devices may be content with less.
const Alignment = 4096

// AlignedBuffer makes a zeroed buffer of n bytes whose address suits O_DIRECT.
func AlignedBuffer(n int) []byte {
	b := make([]byte, n+Alignment)
	skip := int(-uintptr(unsafe.Pointer(&b[0])) % Alignment)
	return b[skip : skip+n : skip+n]
}

// aligned tells whether a direct read or write of p at off is.
func aligned(p []byte, off int64) bool {
	if len(p) == 0 {
		return true
	}
	return (uint64(off)|uint64(len(p))|uint64(uintptr(unsafe.Pointer(&p[0]))))%Alignment == 0
}
