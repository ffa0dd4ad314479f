package main

import (
	"runtime"
	"runtime/debug"
)

// memoryLimit is from how many bytes on the daemon collects garbage eagerly.
// What it must hold at a time is bounded well below (docs/PERFORMANCE.md).
const memoryLimit = 192 << 20

// useResources fits Go's runtime to a daemon that mostly waits. A thread that
// comes back from the kernel with a request should find a processor to go on
// with at once, so that there are more of them than cores.
func useResources() {
	runtime.GOMAXPROCS(max(4, 2*runtime.NumCPU()))
	debug.SetMemoryLimit(memoryLimit)
}
