//go:build race

package main

// buildFlags make the program under test what the tests are.
var buildFlags = []string{"-race"}
