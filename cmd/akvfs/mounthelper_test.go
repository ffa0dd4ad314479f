package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestDispatch(t *testing.T) {
	for _, c := range []struct{ argv, want []string }{
		{[]string{"akvfs", "status"}, []string{"status"}},
		{[]string{"/sbin/mount.akvfs", "a", "b", "-o", "rw"}, []string{"mount.akvfs", "a", "b", "-o", "rw"}},
		{[]string{"akvfs"}, nil},
		{nil, nil},
	} {
		if got := dispatch(c.argv); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q", c.argv, got)
		}
	}
}

// What mount(8) does with a volume, in a mount namespace where the helper is
// installed.
const mountScript = `
set -eu
fail() { echo "failed: $*" >&2; exit 1; }
mkdir -p upper work
mount -t tmpfs none upper
mkdir upper/up upper/work
mount -t overlay overlay -o lowerdir=/usr/sbin,upperdir=upper/up,workdir=upper/work /usr/sbin
ln -s "$AKVFS" /usr/sbin/mount.akvfs
shown() { grep " $PWD/mount fuse.akvfs " /proc/self/mounts || fail "not mounted: $*"; }
away() { if grep " $PWD/mount " /proc/self/mounts; then fail "still mounted: $*"; fi; }
refused() {
	want=$1; shift
	if "$@" 2>err; then fail "$* is not refused"; else code=$?; fi
	[ "$code" = "$want" ] || fail "$*: exit status $code: $(cat err)"
	away "$*"
}

mount -t akvfs backing mount -o rw,noatime,check-interval=5m
shown | grep -q noatime || fail "noatime is missing"
"$AKVFS" status mount | grep -q "every 5m" || fail "an option is missing"
echo hello >mount/data
umount mount
away umount

# A line of fstab, with what is for mount(8) and systemd.
line() { echo "$PWD/backing $PWD/mount akvfs $1 0 0" >fstab; }
line defaults,noauto,_netdev,nofail,user,x-systemd.requires=network-online.target,x-systemd.mount-timeout=2m,x-systemd.automount,comment=hello,grace=1h
mount -T fstab -a
away "noauto"
mount -T fstab "$PWD/mount"
[ "$(cat mount/data)" = hello ] || fail "read $(cat mount/data)"
"$AKVFS" status mount | grep -q "1h of grace" || fail "an option is missing"
umount mount
line auto,_netdev,ro,noexec
mount -T fstab -a
shown | grep -q " ro,.*noexec" || fail "ro or noexec is missing"
umount mount
mount -t akvfs -r backing mount
shown | grep -q " ro," || fail "-r is missing"
umount mount

mount -f -v -t akvfs backing mount
away "mount -f"
mount -s -t akvfs backing mount -o colour=red,rw
umount mount
refused 2 mount -t akvfs backing mount -o colour=red
grep -q 'mount option "colour=red" is unknown' err || fail "$(cat err)"
refused 2 mount -t akvfs backing mount -o remount
grep -q "unmount the volume" err || fail "$(cat err)"
refused 2 mount.akvfs backing mount -N /proc/1/ns/mnt
refused 2 mount.akvfs backing mount -t ext4
refused 2 mount.akvfs backing
refused 13 mount -t akvfs "$PWD/other" "$PWD/mount"
"$AKVFS" dev-key disable key.json
refused 11 mount -t akvfs backing mount
"$AKVFS" dev-key enable key.json
mount.akvfs --help | grep -q "Called by mount(8)" || fail "no help"
echo all done
`

func TestMountHelper(t *testing.T) {
	w := newVolume(t)
	w.mkdir(join(w.dir, "other"))
	w.write(join(w.dir, "script"), mountScript)
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "sh", join(w.dir, "script"))
	cmd.Env, cmd.Dir = append(w.env, "AKVFS="+binary), w.dir
	if r := w.finish(cmd); r.code != 0 || !strings.HasSuffix(r.out, "all done\n") {
		t.Errorf("%+v", r)
	}
}
