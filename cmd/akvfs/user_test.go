package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// What a user without privileges does, in a mount namespace of its own where
// everybody may open /dev/fuse, as on other systems than a bare container.
const userScript = `
set -e
unset XDG_RUNTIME_DIR AKVFS_RUN_DIR XDG_STATE_HOME AKVFS_STATE_DIR
export XDG_RUNTIME_DIR="$PWD/runtime" HOME="$PWD"
mkdir backing mount runtime
chmod 700 runtime
aki=$("$AKVFS" dev-key create key.json --bits 2048 2>/dev/null)
"$AKVFS" init backing --key-id "$aki" --journal-size 1M >/dev/null
"$AKVFS" mount backing mount
if "$AKVFS" mount backing mount -o allow_other 2>err; then echo "mounted twice"; exit 1; fi
grep -q "already" err
echo hello >mount/data
grep -q " $PWD/mount fuse.akvfs " /proc/self/mounts
"$AKVFS" status mount | grep -q mounted
test "$(find runtime/akvfs -type s -perm 0600 | wc -l)" = 2
grep -q '"action":"mount".*"result":"ok"' .local/state/akvfs/audit/*.log
exec 9<mount/data
if "$AKVFS" unmount mount --wait 0s 2>err; then echo "unmounted while busy"; exit 1; fi
grep -q "is in use by" err
exec 9<&-
"$AKVFS" unmount mount
pid=$("$AKVFS" mount backing mount && "$AKVFS" status mount --json | sed -n 's/^ *"pid": \([0-9]*\),/\1/p')
kill -9 "$pid"
while kill -0 "$pid" 2>/dev/null && ! grep -q "State:.Z" "/proc/$pid/status" 2>/dev/null; do sleep 0.05; done
"$AKVFS" mount backing mount
test "$(cat mount/data)" = hello
"$AKVFS" unmount backing
! grep -q " $PWD/mount " /proc/self/mounts
grep -q ^user_allow_other /etc/fuse.conf || {
	if "$AKVFS" mount backing mount -o allow_other 2>err; then echo "mounted for others"; exit 1; fi
	grep -q "user_allow_other" err
}
echo all done
`

func TestUser(t *testing.T) {
	w := newWorld(t)
	dir := w.nobodysDir()
	w.must(os.Chmod(w.dir, 0o755))
	device := join(w.dir, "fuse")
	w.must(exec.Command("mknod", "-m", "666", device, "c", "10", "229").Run())
	w.write(join(dir, "script"), userScript)
	w.must(os.Chmod(join(dir, "script"), 0o644))
	// The new namespace must not hold the mounts of tests that run beside this.
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c",
		`findmnt -rn -t fuse.akvfs -o TARGET | xargs -r umount -i -c -l
		mount --bind "$1" /dev/fuse && cd "$2" && exec setpriv --reuid 65534 --regid 65534 --clear-groups sh script`, "sh", device, dir)
	cmd.Env = append(os.Environ(), "AKVFS="+binary, "HOME="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "all done\n") {
		t.Errorf("%v\n%s", err, out)
	}
}
