//go:build race

package fusefs

// usualSteps are TestDifferential's on each engine: the detector is slow.
const usualSteps = 20_000
