package disk

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// counters are what a disk has done since it is there, or between two looks.
type counters struct {
	requests float64 // reads and writes that were finished
	bytes    float64 // that they moved
	waited   float64 // seconds that they took, all added up
	busy     float64 // seconds in which any was under way
	weighted float64 // the same, times how many were
}

// device is a number of the kernel's, as 254:1.
type device struct{ major, minor uint32 }

var errForm = errors.New("not what the kernel writes there")

// sector is the unit of the kernel's counters, whatever the disk's own is.
const sector = 512

// find reads a disk's line of /proc/diskstats; see Documentation/admin-guide/iostats.rst of the kernel:
//
//	major minor name reads merged sectors ms writes merged sectors ms under-way busy-ms weighted-ms ...
//
// Discards and flushes, which newer kernels add, are left out.
func find(table []byte, is func(d device, name string) bool) (c counters, found bool, err error) {
	for line := range bytes.Lines(table) {
		f := bytes.Fields(line)
		if len(f) < 3 {
			return c, false, errForm
		}
		major, err1 := strconv.ParseUint(string(f[0]), 10, 32)
		minor, err2 := strconv.ParseUint(string(f[1]), 10, 32)
		if err1 != nil || err2 != nil {
			return c, false, errForm
		}
		if !is(device{uint32(major), uint32(minor)}, string(f[2])) {
			continue
		}
		if len(f) < 14 {
			return c, false, errors.New("the kernel keeps no full account of this disk")
		}
		var n [11]float64
		for i := range n {
			v, err := strconv.ParseUint(string(f[3+i]), 10, 64)
			if err != nil {
				return c, false, errForm
			}
			n[i] = float64(v)
		}
		const ms = 1000
		return counters{
			requests: n[0] + n[4], bytes: sector * (n[2] + n[6]), waited: (n[3] + n[7]) / ms, busy: n[9] / ms, weighted: n[10] / ms,
		}, true, nil
	}
	return c, false, nil
}

// since is what was counted after before. Not ok: a counter went back, because the disk came anew or a counter of milliseconds
// passed 2^32.
func (c counters) since(before counters) (d counters, ok bool) {
	d = counters{c.requests - before.requests, c.bytes - before.bytes, c.waited - before.waited, c.busy - before.busy, c.weighted - before.weighted}
	return d, min(d.requests, d.bytes, d.waited, d.busy, d.weighted) >= 0
}

// parseDevice reads "254:1".
func parseDevice(b []byte) (device, error) {
	major, minor, ok := bytes.Cut(bytes.TrimSpace(b), []byte(":"))
	x, err1 := strconv.ParseUint(string(major), 10, 32)
	y, err2 := strconv.ParseUint(string(minor), 10, 32)
	if !ok || err1 != nil || err2 != nil {
		return device{}, errForm
	}
	return device{uint32(x), uint32(y)}, nil
}

func (d device) String() string { return fmt.Sprintf("%d:%d", d.major, d.minor) }
