// Package docs holds the tests that keep the documents true to the code: the
// tests that they name exist, and the dependencies that they explain are those
// of go.mod. It has no code.
package docs
