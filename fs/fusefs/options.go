package fusefs

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// OptionError says that Options.Extra has a word that is no option, or one
// that has a field of its own.
type OptionError struct{ Option string }

func (e *OptionError) Error() string { return fmt.Sprintf("unknown mount option %q", e.Option) }

// words are the options that Extra takes, and the flags of mount(2) that each
// sets or clears.
var words = map[string]struct{ set, clear uintptr }{
	"suid":     {clear: unix.MS_NOSUID},
	"nosuid":   {set: unix.MS_NOSUID},
	"dev":      {clear: unix.MS_NODEV},
	"nodev":    {set: unix.MS_NODEV},
	"exec":     {clear: unix.MS_NOEXEC},
	"noexec":   {set: unix.MS_NOEXEC},
	"sync":     {set: unix.MS_SYNCHRONOUS},
	"async":    {clear: unix.MS_SYNCHRONOUS},
	"dirsync":  {set: unix.MS_DIRSYNC},
	"noatime":  {set: unix.MS_NOATIME},
	"relatime": {set: unix.MS_RELATIME},
}

// mountFlags are those of mount(2).
func mountFlags(opts Options) (uintptr, error) {
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV)
	for _, word := range opts.Extra {
		w, ok := words[word]
		if !ok {
			return 0, &OptionError{word}
		}
		flags = flags&^w.clear | w.set
	}
	if opts.ReadOnly {
		flags |= unix.MS_RDONLY
	}
	return flags, nil
}
