package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/google/uuid"

	"github.com/akvfs/akvfs/fs/audit"
	"github.com/akvfs/akvfs/fs/cluster"
	"github.com/akvfs/akvfs/fs/control"
	"github.com/akvfs/akvfs/fs/convert"
	"github.com/akvfs/akvfs/fs/daemon"
	"github.com/akvfs/akvfs/fs/fsck"
	"github.com/akvfs/akvfs/fs/fusefs"
	"github.com/akvfs/akvfs/fs/highwater"
	"github.com/akvfs/akvfs/fs/host"
	"github.com/akvfs/akvfs/fs/journal"
	"github.com/akvfs/akvfs/fs/metrics"
	"github.com/akvfs/akvfs/fs/snapshot"
	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
	"github.com/akvfs/akvfs/keymgr/confdir"
	"github.com/akvfs/akvfs/keymgr/project"
)

func keyError(class keymgr.Class) error {
	return &keymgr.KeyError{Class: class, KeyID: "https://acme.vault.azure.net/keys/k", Vault: "acme.vault.azure.net", Key: "k", Code: "Code", Op: "unwrap"}
}

func pathErr(role daemon.Role, p daemon.Problem) error {
	return &daemon.PathError{Role: role, Path: "/p", Problem: p}
}

// Every error that a package can return, as it comes out of the daemon, with
// the row of the table that must take it.
var diagnosed = []struct {
	err  error
	row  string
	code int
}{
	{&notOwnError{"/etc/akvfs"}, "not this user's", 16},
	{&notServedError{"/run/akvfs"}, "not served", 16},
	{&control.TakenError{Name: "host"}, "service there already", 15},
	{&host.StaleError{Project: "p"}, "changed meanwhile", 15},
	{&host.NoVolumeError{Cluster: "c", Why: "w"}, "volume not told", 13},
	{&confdir.NoEntryError{Noun: "project", Name: "p"}, "no such project", 1},
	{&confdir.NoEntryError{Noun: "cluster", Name: "c"}, "no such cluster", 1},
	{&confdir.NameError{Noun: "project", Name: "a/b"}, "bad name", 2},
	{&confdir.BusyError{Noun: "project", Name: "p"}, "being changed", 15},
	{&confdir.UnsafeError{Path: "/p", Why: "is a symbolic link"}, "unsafe file", 16},
	{&project.CredentialError{Err: &confdir.UnsafeError{Path: "/p", Why: "holds a secret"}}, "unsafe file", 16},
	{&project.CredentialError{Err: errors.New("it is not there")}, "credential not usable", 12},
	{&project.ExistsError{Name: "p"}, "project there already", 2},
	{&project.InvalidError{Problems: []project.Problem{{Field: "tenant_id", What: "is odd"}}}, "configuration wrong", 2},
	{&cluster.RecordError{Path: "/p", Why: "is not TOML"}, "cluster's record damaged", 1},
	{&cluster.StateError{Name: "c", State: cluster.StateEnabling}, "cluster half done", 13},
	{&cluster.EnabledError{Name: "c"}, "cluster enabled already", 2},
	{&cluster.OtherError{Name: "c", What: "project"}, "cluster is another", 2},
	{&cluster.CollisionError{Path: "/d", Cluster: "c"}, "directory of another cluster", 2},
	{&cluster.ForeignKeyError{Backing: "/b"}, "volume of another key", 2},
	{&cluster.ProjectInUseError{Project: "p", Clusters: []string{"c"}, Snapshots: []string{"/s"}}, "project in use", 15},
	{pathErr(daemon.RoleData, daemon.ProblemMissing), "data directory missing", 2},
	{pathErr(daemon.RoleBacking, daemon.ProblemOtherDisk), "on another file system", 2},
	{pathErr(daemon.RoleData, daemon.ProblemMounted), "file system of its own", 2},
	{pathErr(daemon.RoleData, daemon.ProblemNotEmpty), "data directory not empty", 2},
	{context.Canceled, "interrupted", 1},
	{&keymgr.KeyError{Class: keymgr.Unreachable, Err: context.Canceled}, "interrupted", 1},
	{&control.Error{Code: control.CodeDenied, Message: "m"}, "not permitted by the daemon", 16},
	{&control.Error{Code: control.CodeNoMethod, Message: "m"}, "older daemon", 1},
	{&control.Error{Code: control.CodeVersion, Message: "m"}, "older daemon", 1},
	{&control.Error{Code: control.CodeBadRequest, Message: "m"}, "bad request", 2},
	{&control.Error{Code: control.CodeEnding, Message: "m"}, "daemon gone", 1},
	{&control.Error{Code: control.CodeOverload, Message: "m"}, "daemon overloaded", 1},
	{&control.GoneError{Err: syscall.ECONNREFUSED}, "daemon gone", 1},
	{&control.UnsafeDirError{Path: "/run/akvfs"}, "run directory not safe", 16},
	{&optionError{"colour", "is unknown"}, "mount option", 2},
	{&fusefs.OptionError{Option: "colour"}, "mount option", 2},
	{&usageError{"akvfs", errors.New("no")}, "usage", 2},
	{&daemon.NotFoundError{ID: uuid.UUID{1}}, "no such volume", 1},
	{pathErr(daemon.RoleBacking, daemon.ProblemMissing), "backing directory missing", 2},
	{pathErr(daemon.RoleMountpoint, daemon.ProblemMissing), "mount point missing", 2},
	{pathErr(daemon.RoleVolume, daemon.ProblemMissing), "volume path missing", 2},
	{pathErr(daemon.RoleBacking, daemon.ProblemNotDirectory), "not a directory", 2},
	{pathErr(daemon.RoleMountpoint, daemon.ProblemNotDirectory), "not a directory", 2},
	{pathErr(daemon.RoleBacking, daemon.ProblemNotEmpty), "backing directory not empty", 2},
	{pathErr(daemon.RoleMountpoint, daemon.ProblemNotEmpty), "mount point not empty", 2},
	{pathErr(daemon.RoleMountpoint, daemon.ProblemInsideBacking), "mount point in backing directory", 2},
	{pathErr(daemon.RoleBacking, daemon.ProblemInsideMount), "backing directory in mount point", 2},
	{pathErr(daemon.RoleBacking, daemon.ProblemInsideVolume), "in another volume", 2},
	{pathErr(daemon.RoleBacking, daemon.ProblemIsVolume), "volume there already", 2},
	{pathErr(daemon.RoleBacking, daemon.ProblemSymlink), "symbolic link", 2},
	{&daemon.SnapshotError{}, "snapshot for writing", 2},
	{&daemon.FrozenError{}, "frozen already", 15},
	{&control.Error{Code: daemon.CodeFrozen, Message: "m"}, "frozen already", 15},
	{&daemon.ThawedError{}, "not frozen", 1},
	{&control.Error{Code: daemon.CodeNotFrozen, Message: "m"}, "not frozen", 1},
	{&snapshot.ExistsError{Name: "n"}, "snapshot there already", 2},
	{&control.Error{Code: daemon.CodeSnapshotExists, Message: "m"}, "snapshot there already", 2},
	{&snapshot.NameError{Name: ".n"}, "snapshot name", 2},
	{&host.NoSnapshotError{}, "no such snapshot", 1},
	{&snapshot.BusyError{}, "volume too busy", 1},
	{&control.Error{Code: daemon.CodeSnapshotBusy, Message: "m"}, "volume too busy", 1},
	{&daemon.OverlapError{}, "snapshots in the volume", 2},
	{&control.Error{Code: daemon.CodeSnapshotInside, Message: "m"}, "snapshots in the volume", 2},
	{&snapshot.NotEmptyError{Dir: "/d"}, "restore not empty", 2},
	{snapshot.ErrNotSnapshot, "not a snapshot", 13},
	{snapshot.ErrDamaged, "not a snapshot", 13},
	{&snapshot.NewerError{Format: 2}, "newer snapshot", 13},
	{&damagedError{}, "snapshot damaged", 14},
	{&snapshot.DamageError{Path: "p", What: "w"}, "snapshot damaged", 14},
	{&snapshot.StreamError{Offset: 1, What: "w"}, "stream damaged", 14},
	{&snapshot.OtherVolumeError{Name: "n", Volume: "v"}, "stream of another volume", 2},
	{&snapshot.BaseError{Name: "n"}, "base missing", 1},
	{&snapshot.FileExistsError{Path: "/f"}, "export there already", 2},
	{&snapshot.FileInUseError{Path: "/f"}, "export under way", 15},
	{&daemon.VolumeError{Backing: "/b", Err: volume.ErrConverting}, "conversion not finished", 13},
	{convert.ErrUnfinished, "conversion not finished", 13},
	{convert.ErrInUse, "conversion under way", 15},
	{convert.ErrState, "conversion's state damaged", 14},
	{convert.ErrVolume, "encrypted already", 2},
	{convert.ErrNothing, "nothing to decrypt", 13},
	{&convert.ProblemsError{Problems: []convert.Problem{{Path: "p", What: "is odd"}}}, "cannot be converted", 1},
	{&convert.FilesError{Failed: []error{&convert.FileError{Path: "p", Err: &convert.SpaceError{Path: "p"}}}}, "no room to convert", 1},
	{&convert.FilesError{Failed: []error{&convert.FileError{Path: "p", Err: convert.ErrReadBack}}}, "copy reads back differently", 14},
	{&convert.FilesError{Failed: []error{&convert.FileError{Path: "p", Err: convert.ErrChanged}}}, "files not converted", 1},
	{&daemon.InUseError{Backing: "/b", Mountpoint: "/m", PID: 1}, "volume in use", 15},
	{&control.InUseError{}, "volume in use", 15},
	{&daemon.VolumeError{Backing: "/b", Err: volume.ErrInUse}, "volume in use", 15},
	{&daemon.MountpointTakenError{Path: "/m"}, "mount point taken", 15},
	{&daemon.BusyError{Mountpoint: "/m"}, "mount busy", 15},
	{&control.Error{Code: daemon.CodeBusy, Message: "m"}, "mount busy", 15},
	{&daemon.LingeringError{Mountpoint: "/m"}, "mount lingers", 15},
	{&control.Error{Code: daemon.CodeLingering, Message: "m"}, "mount lingers", 15},
	{&control.Error{Code: daemon.CodeUnfinished, Message: "m"}, "unmounted unfinished", 1},
	{&daemon.UnfinishedError{Mountpoint: "/m", Err: syscall.EROFS}, "unmounted unfinished", 1},
	{&daemon.NotMountedError{Path: "/m"}, "not mounted", 1},
	{&daemon.LockedError{Backing: "/b", Why: "locked by hand"}, "volume locked", 1},
	{&control.Error{Code: daemon.CodeLocked, Message: "m"}, "volume locked", 1},
	{&daemon.AmbiguousKeyError{KeyIDs: []string{"a", "b"}}, "key is ambiguous", 2},
	{&control.Error{Code: daemon.CodeAmbiguousKey, Message: "m"}, "key is ambiguous", 2},
	{&daemon.ReadOnlyError{Backing: "/b"}, "mounted read-only", 1},
	{&control.Error{Code: daemon.CodeReadOnly, Message: "m"}, "mounted read-only", 1},
	{keymgr.ErrKeyPresent, "key there already", 2},
	{&control.Error{Code: daemon.CodeKeyPresent, Message: "m"}, "key there already", 2},
	{keymgr.ErrUnknownKey, "key not there", 2},
	{&control.Error{Code: daemon.CodeUnknownKey, Message: "m"}, "key not there", 2},
	{keymgr.ErrLastKey, "last key", 2},
	{&control.Error{Code: daemon.CodeLastKey, Message: "m"}, "last key", 2},
	{keymgr.ErrConflict, "keyring changed", 1},
	{&daemon.StrandedError{KeyID: "k", Err: keyError(keymgr.Revoked)}, "key revoked", 11},
	{keyError(keymgr.Revoked), "key revoked", 11},
	{&control.Error{Code: daemon.CodeRevoked, Message: "m"}, "key revoked", 11},
	{keyError(keymgr.Credentials), "credentials refused", 12},
	{&control.Error{Code: daemon.CodeCredentials, Message: "m"}, "credentials refused", 12},
	{keyError(keymgr.Unreachable), "vault unreachable", 10},
	{&control.Error{Code: daemon.CodeUnreachable, Message: "m"}, "vault unreachable", 10},
	{keyError(keymgr.Mismatch), "key of other material", 14},
	{&control.Error{Code: daemon.CodeIntegrity, Message: "m"}, "key of other material", 14},
	{keyError(keymgr.Invalid), "key not usable", 2},
	{&control.Error{Code: daemon.CodeInvalidKey, Message: "m"}, "key not usable", 2},
	{&keymgr.UnopenedError{Errors: []*keymgr.KeyError{keyError(keymgr.Unreachable).(*keymgr.KeyError), keyError(keymgr.Revoked).(*keymgr.KeyError)}}, "vault unreachable", 10},
	{keymgr.ErrKeyringExists, "keyring exists", 2},
	{&daemon.VolumeError{Backing: "/b", Err: volume.ErrRestoring}, "restoration interrupted", 13},
	{&daemon.VolumeError{Backing: "/b", Err: volume.ErrIncomplete}, "creation interrupted", 13},
	{&daemon.VolumeError{Backing: "/b", Err: volume.ErrNotVolume}, "not a volume", 13},
	{&daemon.VolumeError{Backing: "/b", Err: &volume.NewerFormatError{Version: 9}}, "newer format", 13},
	{&keymgr.NewerFormatError{File: "keyring.json", Format: 9, Known: 1}, "newer format", 13},
	{journal.ErrNewerFormat, "newer format", 13},
	{&fsck.NotEmptyError{Dir: "/d"}, "salvage not empty", 2},
	{keymgr.ErrNoKeyring, "keyring missing", 14},
	{&daemon.VolumeError{Backing: "/b", Err: &highwater.RollbackError{Part: highwater.Keyring, Found: 4, Seen: 5}}, "rolled back", 14},
	{&keymgr.IntegrityError{File: "keyring.json", Reason: "edited"}, "keyring damaged", 14},
	{&daemon.VolumeError{Backing: "/b", Err: &journal.CorruptError{What: "w"}}, "journal damaged", 14},
	{&daemon.VolumeError{Backing: "/b", Err: &volume.IntegrityError{Path: "p", What: "w"}}, "volume damaged", 14},
	{store.ErrNoOpenat2, "kernel too old", 1},
	{&fusefs.MountError{Mountpoint: "/m", Err: &fs.PathError{Op: "open", Path: "/dev/fuse", Err: syscall.ENOENT}}, "no FUSE", 1},
	{&fusefs.MountError{Mountpoint: "/m", Err: syscall.EPERM}, "not permitted", 16},
	{&fusefs.MountError{Mountpoint: "/m", Err: errors.New("fusermount exited with code 256")}, "mount refused", 1},
	{&fs.PathError{Op: "open", Path: "/b", Err: syscall.EACCES}, "not permitted", 16},
	{os.NewSyscallError("mkdirat", syscall.EROFS), "read-only file system", 1},
	{&fs.PathError{Op: "write", Path: "/b", Err: syscall.ENOSPC}, "disk full", 1},
	{syscall.EDQUOT, "disk full", 1},
	{&audit.Error{Path: "/a", Err: syscall.ENOSPC}, "audit log not writable", 1},
	{&keymgr.KeyError{Class: keymgr.Unreachable, Code: "FileNotFound"}, "key store missing", 10},
	{&keymgr.KeyError{Class: keymgr.Invalid, Code: "UnsafeFile"}, "key store unsafe", 2},
	{&keymgr.KeyError{Class: keymgr.Invalid, Code: "KeyExists"}, "key store there already", 2},
	{&control.Error{Code: daemon.CodeAudit}, "audit log not writable", 1},
	{pathErr(daemon.RoleAuditLog, daemon.ProblemInsideBacking), "audit log in the volume", 2},
	{pathErr(daemon.RoleAuditLog, daemon.ProblemInsideMount), "audit log in the volume", 2},
	{&metrics.AddressError{Address: "0.0.0.0:1"}, "metrics address", 2},
	{errors.New("something else"), "", 1},
}

func rowOf(err error) string {
	for _, f := range failures {
		if f.is(err) {
			return f.name
		}
	}
	return ""
}

func TestDiagnose(t *testing.T) {
	covered := map[string]bool{}
	for _, c := range diagnosed {
		t.Run(fmt.Sprintf("%s: %v", c.row, c.err), func(t *testing.T) {
			// As it is, wrapped, and joined with what a clean-up said.
			for _, err := range []error{c.err, fmt.Errorf("wrapped: %w", c.err), errors.Join(c.err, errors.New("clean-up"))} {
				if got := rowOf(err); got != c.row {
					t.Errorf("the row is %q, not %q", got, c.row)
				}
				if code, _ := diagnose(err); code != c.code {
					t.Errorf("the exit code is %d, not %d", code, c.code)
				}
			}
		})
		covered[c.row] = true
	}
	for _, f := range failures {
		if !covered[f.name] {
			t.Errorf("no error is known to reach the row %q", f.name)
		}
	}
	if code, remedy := diagnose(nil); code != 0 || remedy != "" {
		t.Errorf("no error gives %d, %q", code, remedy)
	}
}

func TestRemediesAreSentences(t *testing.T) {
	for _, f := range failures {
		if f.remedy != "" && (!strings.HasSuffix(f.remedy, ".") || strings.Contains(f.remedy, "\n")) {
			t.Errorf("%s: %q", f.name, f.remedy)
		}
		if f.remedy == "" && f.name != "interrupted" && f.name != "bad request" && f.name != "usage" {
			t.Errorf("%s says nothing about what to do", f.name)
		}
	}
}

func TestReport(t *testing.T) {
	for _, c := range []struct {
		err  error
		text string
		code int
	}{
		{nil, "", 0},
		{errors.New("broken"), "akvfs: broken\n", 1},
		{&usageError{"akvfs mount", errors.New("BACKING is missing")}, "akvfs: BACKING is missing\nSee `akvfs mount --help`.\n", 2},
		{fmt.Errorf("waiting: %w", context.Canceled), "akvfs: interrupted; nothing was changed\n", 1},
		{pathErr(daemon.RoleMountpoint, daemon.ProblemMissing), "akvfs: mount point /p does not exist\nMake the directory first: mkdir MOUNTPOINT.\n", 2},
	} {
		var out bytes.Buffer
		if code := report(&out, c.err); code != c.code || out.String() != c.text {
			t.Errorf("%v: %d, %q", c.err, code, out.String())
		}
	}
}
