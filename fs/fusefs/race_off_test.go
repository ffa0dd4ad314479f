//go:build !race

package fusefs

// usualSteps are TestDifferential's on each engine.
const usualSteps = 100_000
