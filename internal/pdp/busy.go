package pdp

import (
	"sync"

	"github.com/lethe-crm/lethe/internal/gid"
)

// busy bounds how many requests of each tenant run at a time, so that one
// application that asks without end leaves the others their turn.
type busy struct {
	limit   int
	mu      sync.Mutex
	running map[gid.ID]int
}

func (b *busy) enter(tenant gid.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.running[tenant] >= b.limit {
		return false
	}
	b.running[tenant]++
	return true
}

func (b *busy) leave(tenant gid.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.running[tenant]--; b.running[tenant] == 0 {
		delete(b.running, tenant)
	}
}
