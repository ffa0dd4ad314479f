package volume

import "testing"

// A sync of the store that begins while a name is being changed, and ends
// before that, makes nothing sure.
func TestNameChangeUnderWay(t *testing.T) {
	var n nameChanges
	sync := func() { n.save(n.sure()) }
	unsaved := func(want bool, when string) {
		t.Helper()
		if n.unsaved() != want {
			t.Errorf("%s: unsaved is %v", when, !want)
		}
	}
	unsaved(false, "at first")
	must(t, n.do(func() error {
		unsaved(true, "under way")
		sync()
		unsaved(true, "under way, and synced")
		return nil
	}))
	unsaved(true, "ended")
	sync()
	unsaved(false, "ended, and synced")
}
