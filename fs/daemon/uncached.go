package daemon

import (
	"fmt"
	"path"
	"strings"
)

// uncached says of a path whether it matches one of the patterns: those of
// path.Match, each for as many of the path's last components as it has itself.
func uncached(patterns []string) func(name string) bool {
	if len(patterns) == 0 {
		return nil
	}
	return func(name string) bool {
		for _, p := range patterns {
			if ok, _ := path.Match(p, lastComponents(name, 1+strings.Count(p, "/"))); ok {
				return true
			}
		}
		return false
	}
}

// lastComponents is the end of a path with n components, or all of it.
func lastComponents(name string, n int) string {
	at := len(name)
	for ; n > 0 && at >= 0; n-- {
		at = strings.LastIndexByte(name[:at], '/')
	}
	return name[at+1:]
}

// CheckUncached refuses what is no pattern.
func CheckUncached(pattern string) error {
	if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
		return fmt.Errorf("%q is no pattern", pattern)
	}
	return nil
}
