//go:build !race

package volume

const (
	usualSeeds = 12
	everyNth   = 1
)
