package main

import (
	"net/http"
	_ "net/http/pprof" // registers its handlers
	"os"
)

// This file is laid over both servers by the benchmark's --profile.
func init() {
	go func() { _ = http.ListenAndServe(os.Getenv("LETHE_BENCH_PROFILE"), nil) }()
}
