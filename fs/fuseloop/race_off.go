//go:build !race

package fuseloop

const raceDetector = false
