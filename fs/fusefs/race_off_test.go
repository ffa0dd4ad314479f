//go:build !race

package fusefs

// usualSteps are TestDifferential's, on both engines together.
const usualSteps = 100_000

// hugeEntries are those of TestHugeDirectory.
const hugeEntries = 100_000
