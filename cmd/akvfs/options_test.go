package main

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/akvfs/akvfs/fs/daemon"
)

func TestApplyOptions(t *testing.T) {
	for _, c := range []struct {
		text string
		want func(*daemon.Config)
	}{
		{"", func(*daemon.Config) {}},
		{",,", func(*daemon.Config) {}},
		{"allow_other", func(c *daemon.Config) { c.AllowOther = true }},
		{"ro", func(c *daemon.Config) { c.ReadOnly = true }},
		{"ro,rw", func(*daemon.Config) {}},
		{"suid,dev", func(c *daemon.Config) { c.KernelOptions = []string{"suid", "dev"} }},
		{"suid,suid,nosuid", func(c *daemon.Config) { c.KernelOptions = []string{"nosuid"} }},
		{"noexec,exec,noexec", func(c *daemon.Config) { c.KernelOptions = []string{"noexec"} }},
		{"fsname=rs0", func(c *daemon.Config) { c.FSName = "rs0" }},
		{"fsname=a=b", func(c *daemon.Config) { c.FSName = "a=b" }},
		{"check-interval=5m", func(c *daemon.Config) { c.CheckInterval = 5 * time.Minute }},
		{"awake=off", func(c *daemon.Config) { c.MaySleep = true }},
		{"awake=off,awake=on", func(c *daemon.Config) {}},
		{"busy-poll=0", func(c *daemon.Config) { c.BusyPoll = 0 }},
		{"grace=0", func(c *daemon.Config) { c.Grace = 0 }},
		{"grace=48h,commit=100ms", func(c *daemon.Config) { c.Grace, c.CommitInterval = 48*time.Hour, 100*time.Millisecond }},
		{"follow=alert,master-key-period=0,rewrap-rate=0", func(c *daemon.Config) { c.Follow, c.MasterKeyPeriod, c.RewrapRate = daemon.FollowAlert, 0, 0 }},
		{"follow=alert,follow=take,master-key-period=720h,rewrap-rate=9", func(c *daemon.Config) { c.MasterKeyPeriod, c.RewrapRate = 720*time.Hour, 9 }},
		{"key-timeout=5s", func(c *daemon.Config) { c.KeyTimeout = 5 * time.Second }},
		{"sync,async,dirsync,noatime", func(c *daemon.Config) { c.KernelOptions = []string{"sync", "async", "dirsync", "noatime"} }},
		{"defaults,noauto,_netdev,nofail,user,rw,nodiratime", func(*daemon.Config) {}},
		{"aki-max-age=30d,expiry-warning=36h", func(c *daemon.Config) { c.AKIMaxAge, c.ExpiryWarning = 30*day, 36*time.Hour }},
		{"aki-max-age=0,expiry-warning=0d", func(c *daemon.Config) { c.AKIMaxAge, c.ExpiryWarning = 0, 0 }},
		{"credential-expires=2027-01-31", func(c *daemon.Config) { c.CredentialExpires = time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC) }},
		{"on-alert=mail root", func(c *daemon.Config) { c.OnAlert = "mail root" }},
		{"audit-log=/var/log/a.log", func(c *daemon.Config) { c.AuditLog = "/var/log/a.log" }},
		{"audit-log=none", func(c *daemon.Config) { c.AuditLog = daemon.AuditNone }},
		{"metrics=off", func(*daemon.Config) {}},
		{"metrics=[::1]:9478", func(c *daemon.Config) { c.Metrics = "[::1]:9478" }},
		{"x-systemd.automount,x-systemd.idle-timeout=1min,X-mount.mkdir,comment=hello", func(*daemon.Config) {}},
	} {
		t.Run(c.text, func(t *testing.T) {
			got, want := daemon.NewConfig(), daemon.NewConfig()
			c.want(&want)
			if err := applyOptions(&got, c.text); err != nil {
				t.Fatal(err)
			}
			got.Now, want.Now, got.Logger, want.Logger = nil, nil, nil, nil
			if len(got.KernelOptions)+len(want.KernelOptions) == 0 {
				got.KernelOptions, want.KernelOptions = nil, nil
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

func TestApplyOptionsRefuses(t *testing.T) {
	for text, says := range map[string]string{
		"aki-max-age=soon":            "needs a time such as 90d or 36h",
		"aki-max-age=-1h":             "needs a time such as 90d or 36h",
		"expiry-warning=1.5d":         "needs a number of days",
		"expiry-warning=99999d":       "needs a number of days",
		"credential-expires=tomorrow": "needs a date such as 2027-01-31",
		"colour":                      "is unknown; known are allow_other, ro,",
		"rw,colour=red":               `"colour=red" is unknown`,
		"ALLOW_OTHER":                 "is unknown",
		"allow_other=1":               "takes no value",
		"fsname":                      "needs a value: fsname=NAME",
		"fsname=":                     "needs a value",
		"fsname=a b":                  "mount table",
		"fsname=a\nb":                 "mount table",
		`fsname=a\040b`:               "mount table",
		"fsname=" + long(256):         "longer",
		"check-interval=often":        "needs a time",
		"check-interval=15":           "needs a time",
		"check-interval=1ms":          "at least 1s",
		"check-interval=-1m":          "at least 1s",
		"grace=-1h":                   "at least 0s",
		"commit=0":                    "at least 10ms",
		"uid=7":                       "is unknown",
		"noauto=1":                    "is unknown",
		"check-interval=99999999999h": "needs a time",
	} {
		t.Run(text, func(t *testing.T) {
			c := daemon.NewConfig()
			err := applyOptions(&c, text)
			var option *optionError
			if !errors.As(err, &option) || !strings.Contains(err.Error(), says) {
				t.Fatalf("got %v, want %q", err, says)
			}
			if code, remedy := diagnose(err); code != exitUsage || remedy == "" {
				t.Errorf("exit code %d, remedy %q", code, remedy)
			}
		})
	}
}

// Metrics for the whole network are refused with a remedy of their own.
func TestMetricsAddressRefused(t *testing.T) {
	for _, address := range []string{"0.0.0.0:9478", "localhost:9478", ":9478", "127.0.0.1", "[fe80::1%lo]:9478", "tcp"} {
		c := daemon.NewConfig()
		err := applyOptions(&c, "metrics="+address)
		code, remedy := diagnose(err)
		if code != exitUsage || !strings.Contains(remedy, "127.0.0.1:9478") {
			t.Errorf("%s: %v, exit code %d, remedy %q", address, err, code, remedy)
		}
	}
}

func long(n int) string { return strings.Repeat("x", n) }

// Options are independent: the order of different ones does not matter, and
// giving them in one -o or in several is the same.
func TestOptionsCommute(t *testing.T) {
	words := []string{"allow_other", "ro", "suid", "dev", "noexec", "fsname=x", "grace=1h", "commit=1s", "check-interval=7s", "key-timeout=3s", "noauto", "x-a=b"}
	rapid.Check(t, func(t *rapid.T) {
		chosen := rapid.SliceOfDistinct(rapid.SampledFrom(words), rapid.ID[string]).Draw(t, "chosen")
		shuffled := rapid.Permutation(chosen).Draw(t, "shuffled")
		apply := func(texts ...string) daemon.Config {
			c := daemon.NewConfig()
			for _, text := range texts {
				if err := applyOptions(&c, text); err != nil {
					t.Fatal(err)
				}
			}
			slices.Sort(c.KernelOptions)
			c.Now, c.Logger = nil, nil
			return c
		}
		one, many := apply(strings.Join(chosen, ",")), apply(shuffled...)
		if !reflect.DeepEqual(one, many) {
			t.Fatalf("%v gives %+v, %v gives %+v", chosen, one, shuffled, many)
		}
	})
}

func FuzzApplyOptions(f *testing.F) {
	for _, seed := range []string{"", "allow_other,ro", "fsname=a,grace=1h", "x-y=z,,colour", "commit=\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := daemon.NewConfig()
		err := applyOptions(&c, text)
		var option *optionError
		if err != nil && !errors.As(err, &option) {
			t.Fatalf("%q: %T", text, err)
		}
		if err == nil && (c.CheckInterval < time.Second || c.Grace < 0 || strings.ContainsAny(c.FSName, " \n\t\\,")) {
			t.Fatalf("%q gives %+v", text, c)
		}
	})
}

func FuzzParseAge(f *testing.F) {
	for _, s := range []string{"90d", "0", "0d", "36h", "1.5h", "-1d", "65536d", "d", "1e9d", "９d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := parseAge(s)
		if d < 0 || err != nil && d != 0 {
			t.Errorf("%q: %v, %v", s, d, err)
		}
		if digits, ok := strings.CutSuffix(s, "d"); ok && err == nil && strings.Trim(digits, "0123456789") != "" {
			t.Errorf("%q passes for days: %v", s, d)
		}
	})
}
