package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// batch has n devices push 500 farmers each, all at once, and then n others pull them.
func (s *stack) batch(ctx context.Context, c settings, n int) ([]figure, error) {
	writers, readers := make([]*phone, n), make([]*phone, n)
	rng := rand.New(rand.NewPCG(uint64(n), uint64(time.Now().UnixNano())))
	for i := range writers {
		island, err := s.newIsland(ctx)
		if err != nil {
			return nil, err
		}
		for _, p := range []**phone{&writers[i], &readers[i]} {
			if *p, err = s.newPhone(ctx, island, c); err != nil {
				return nil, err
			}
			defer (*p).close()
		}
		writers[i].visit(rng)
	}
	name := "one device"
	if n > 1 {
		name = fmt.Sprintf("%d devices at once", n)
	}
	before := s.cpu()
	push, err := together(ctx, writers)
	if err != nil {
		return nil, err
	}
	used, parts := s.since(before)
	up, down := traffic(writers)
	figures := []figure{
		{What: name + " push 500 farmers: the last is done after", Value: push.slowest, Unit: "s", Bar: 120, Note: push.note(n), Load: push.load},
		{What: name + ", push: CPU of the whole stack, each", Value: used / float64(n), Unit: "s", Note: "all: " + parts, Load: push.load},
		{What: name + ", push: bytes up, each", Value: up, Unit: "kB", Load: push.load},
		{What: name + ", push: bytes down, each", Value: down, Unit: "kB", Load: push.load},
	}
	before = s.cpu()
	pull, err := together(ctx, readers)
	if err != nil {
		return nil, err
	}
	used, parts = s.since(before)
	up, down = traffic(readers)
	return append(figures,
		figure{What: name + " pull 500 farmers: the last is done after", Value: pull.slowest, Unit: "s", Bar: 120, Note: pull.note(n), Load: pull.load},
		figure{What: name + ", pull: CPU of the whole stack, each", Value: used / float64(n), Unit: "s", Note: "all: " + parts, Load: pull.load},
		figure{What: name + ", pull: bytes up, each", Value: up, Unit: "kB", Load: pull.load},
		figure{What: name + ", pull: bytes down, each", Value: down, Unit: "kB", Load: pull.load}), nil
}

// exchange is what a crowd's synchronising took.
type exchange struct {
	median, slowest float64 // s
	retries         int
	load            float64
}

func (e exchange) note(n int) string {
	note := ""
	if n > 1 {
		note = fmt.Sprintf("median %.1f s; ", e.median)
	}
	return note + fmt.Sprintf("%d tried again", e.retries)
}

// together synchronises all phones at once and checks that each then has its 2,000 records.
func together(ctx context.Context, phones []*phone) (e exchange, err error) {
	took, errs := make([]float64, len(phones)), make([]error, len(phones))
	var wg sync.WaitGroup
	begin := time.Now()
	for i, p := range phones {
		wg.Go(func() {
			errs[i] = p.sync(ctx)
			took[i] = time.Since(begin).Seconds()
		})
	}
	wg.Wait()
	for i, p := range phones {
		if errs[i] == nil {
			errs[i] = p.whole(1)
		}
		if errs[i] != nil {
			return e, errs[i]
		}
		e.retries += p.retries
	}
	slices.Sort(took)
	e.median, e.slowest, e.load = took[(len(took)-1)/2], took[len(took)-1], load()
	return e, nil
}

// traffic is what each phone sent and received on average, headers and all, in kB.
func traffic(phones []*phone) (up, down float64) {
	for _, p := range phones {
		u, d := p.link.Traffic()
		up += float64(u.Bytes) / 1000 / float64(len(phones))
		down += float64(d.Bytes) / 1000 / float64(len(phones))
	}
	return up, down
}
