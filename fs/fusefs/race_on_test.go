//go:build race

package fusefs

// usualSteps are TestDifferential's, on both engines together: the detector is
// slow.
const usualSteps = 20_000

// hugeEntries are those of TestHugeDirectory.
const hugeEntries = 10_000
