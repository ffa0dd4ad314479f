package daemon

import "context"

// Lock locks the volume with an ID, a backing directory or a mount point, and
// returns once that is done; the volume stays locked until Unlock. Errors are a
// *NotMountedError, those of find, or a *control.Error that says what could
// not be committed.
func Lock(ctx context.Context, runDir, name string) error {
	return callMounted(ctx, runDir, name, MethodLock)
}

// Unlock has the daemon of a volume prove that a key opens it, and serve it
// again. Errors are a *NotMountedError, those of find, or a *control.Error
// with the code of the key's failure. A volume that is not locked is left alone.
func Unlock(ctx context.Context, runDir, name string) error {
	return callMounted(ctx, runDir, name, MethodUnlock)
}

// callMounted calls a method, without parameters or an answer, of a volume's daemon.
func callMounted(ctx context.Context, runDir, name, method string) error {
	return callResult(ctx, runDir, name, method, nil, nil)
}

func callResult(ctx context.Context, runDir, name, method string, params, result any) error {
	dir, entry, path, err := find(runDir, name)
	if err != nil {
		return err
	}
	if entry.Name != "" {
		path = entry.Mountpoint
	}
	if !entry.Live {
		return &NotMountedError{path}
	}
	return dir.Client(entry.Name).Call(ctx, method, params, result, nil)
}
