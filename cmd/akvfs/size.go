package main

import (
	"fmt"
	"strconv"
	"strings"
)

// size is a flag's number of bytes, with a binary unit: 64M, 1G.
type size int64

var units = []struct {
	suffix string
	bytes  int64
}{{"G", 1 << 30}, {"M", 1 << 20}, {"K", 1 << 10}, {"", 1}}

// Set reads a size.
func (s *size) Set(text string) error {
	number, unit := strings.ToUpper(text), int64(1)
	number = strings.TrimSuffix(strings.TrimSuffix(number, "B"), "I")
	for _, u := range units {
		if rest, ok := strings.CutSuffix(number, u.suffix); ok {
			number, unit = rest, u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/unit {
		return fmt.Errorf("%q is no size such as 64M or 1G", text)
	}
	*s = size(n * unit)
	return nil
}

// String writes a size with the largest unit that has no fraction.
func (s *size) String() string {
	for _, u := range units {
		if *s != 0 && int64(*s)%u.bytes == 0 {
			return fmt.Sprintf("%d%s", int64(*s)/u.bytes, u.suffix)
		}
	}
	return "0"
}

// Type names the value in help.
func (s *size) Type() string { return "SIZE" }
