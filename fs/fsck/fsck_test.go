package fsck

import (
	"testing"
)

// TestClean: a volume that is well is found to be, with keys and without.
func TestClean(t *testing.T) {
	eachNames(t, func(t *testing.T, s *scene) {
		s.clean()
		r, err := Run(t.Context(), s.st, Options{})
		must(t, err)
		if !r.Clean() || r.Proven || r.Objects == 0 {
			t.Fatalf("%s\n%v", r.Summary(), r.Findings)
		}
	})
}
