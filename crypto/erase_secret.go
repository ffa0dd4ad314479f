//go:build goexperiment.runtimesecret

package crypto

import "runtime/secret"

func secretly(f func()) { secret.Do(f) }

// erasesHeap asks the runtime, because on other platforms secret.Do is there
// and does nothing.
func erasesHeap() bool {
	on := false
	secret.Do(func() { on = secret.Enabled() })
	return on
}
