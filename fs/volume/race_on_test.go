//go:build race

package volume

import "flag"

// usualSeeds is TestPowerCut's and its like: these histories are one
// goroutine's, in which the detector, ten times slower, has little to find.
const usualSeeds = 3

// everyNth operation is a point to fail or to be cut at, for the same reason.
const everyNth = 5

func init() { _ = flag.Set("rapid.checks", "20") } // of TestFileModel, for the same reason
