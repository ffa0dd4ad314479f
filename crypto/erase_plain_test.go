//go:build !goexperiment.runtimesecret || !(amd64 || arm64)

package crypto

const wantErases = false
