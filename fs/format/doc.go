// Package format is the shape of an encrypted file in the backing directory:
// where each page lies, what a header and a tag page hold, byte for byte. It
// knows neither keys nor files; docs/FORMAT.md is the same in prose.
//
// A non-empty file is pages of 4 KiB:
//
//	page 0          header
//	page 1          tag page of group 0
//	page 2..102     blocks 0..100
//	page 103        tag page of group 1
//	page 104..204   blocks 101..201
//	…
//
// Every block is stored in full, its plaintext padded with zeros, so that a
// block is always one aligned page. The plaintext size follows from the
// backing file's size alone: after the last page come as many bytes (a hole,
// never written) as the last block has plaintext, 1 to 4096. The tag page of
// the group in which the file ends repeats the size under authentication.
//
// All integers are little-endian. All functions are pure.
package format
