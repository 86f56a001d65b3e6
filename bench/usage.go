package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of times in /proc; it is 100 a second wherever Go runs.
const tick = 10 * time.Millisecond

// status are the fields of /proc/PID/stat from the third on.
func status(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil // it has ended, or this is no Linux
	}
	_, after, _ := bytes.Cut(text[bytes.LastIndexByte(text, ')')+1:], []byte(" "))
	return strings.Fields(string(after))
}

// ticks adds up fields of a status, counted as proc(5) does.
func ticks(fields []string, which ...int) (sum time.Duration) {
	for _, i := range which {
		if i-3 < len(fields) {
			n, err := strconv.Atoi(fields[i-3])
			if err == nil {
				sum += time.Duration(n) * tick
			}
		}
	}
	return sum
}

// cpu is what a process has used.
func cpu(pid int) time.Duration { return ticks(status(pid), 14, 15) }

// parent is the process that started one.
func parent(pid int) int {
	fields := status(pid)
	if len(fields) < 2 {
		return 0
	}
	n, _ := strconv.Atoi(fields[1]) // zero where it is no number
	return n
}

// treeCPU is what a process and its children have used, those that ended
// included.
func treeCPU(pid int) time.Duration {
	sum := ticks(status(pid), 14, 15, 16, 17)
	processes, _ := filepath.Glob("/proc/[0-9]*") // the pattern is right
	for _, path := range processes {
		child, err := strconv.Atoi(filepath.Base(path))
		if err != nil {
			continue
		}
		if fields := status(child); len(fields) > 1 && fields[1] == strconv.Itoa(pid) {
			sum += ticks(fields, 14, 15)
		}
	}
	return sum
}

// memory is a line of /proc/PID/status in bytes, such as VmRSS or VmHWM.
func memory(pid int, line string) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for l := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(l, line+":"); ok {
			kib, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64) // zero where it is no number
			return kib << 10
		}
	}
	return 0
}
