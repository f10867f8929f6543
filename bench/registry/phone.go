package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	"tidemark/internal/prove/shape"
	"tidemark/registry"
	"tidemark/registry/seed"
	"tidemark/registry/sync/device"
)

// phone is an enumerator's device and its link. Its island is its own, but for a second phone that reads what it writes: so
// that each moves what the requirements say, and not what fifty others have written besides.
type phone struct {
	*device.Device
	link    *shape.Link
	client  *http.Client
	island  string
	retries int
}

// form is what every farmer is asked.
var form = registry.Form{ID: "bench-crops", Version: 1, Title: "Crops and livestock", Questions: []registry.Question{
	{Name: "main_crop", Label: "Main crop", Type: "choice", Required: true, Choices: []string{"taro", "cassava", "coconut", "kava", "vanilla"}},
	{Name: "area_ha", Label: "Area under it", Type: "number", Max: 1000}, {Name: "planted", Label: "Planted on", Type: "date"},
	{Name: "harvest_kg", Label: "Last harvest", Type: "number", Max: 100_000}, {Name: "sold", Label: "Sold at the market", Type: "yes_no"},
	{Name: "pigs", Label: "Pigs", Type: "number", Max: 1000}, {Name: "chickens", Label: "Chickens", Type: "number", Max: 10_000},
	{Name: "remarks", Label: "Remarks", Type: "text"},
}}

// newIsland adds an island with one village. Names have no digits.
func (s *stack) newIsland(ctx context.Context) (string, error) {
	n := islands.Add(1)
	name := "Motu "
	for range 4 {
		name += string(rune('a' + n%26))
		n /= 26
	}
	return name, s.store.AddVillages(ctx, []registry.Village{{Country: "COK", Island: name, Name: "Vaitupa"}})
}

var islands, people atomic.Int64

// newPhone makes a phone for an island, with a link of its own.
func (s *stack) newPhone(ctx context.Context, island string, c settings) (*phone, error) {
	id := registry.NewUID()
	now := time.Now()
	secret, _, err := s.store.AddToken(ctx, registry.Token{Name: id, Scope: registry.Enumerator, Device: id, Areas: []string{island},
		CreatedAt: now, ExpiresAt: now.AddDate(0, 0, 1)})
	if err != nil {
		return nil, err
	}
	link := shape.New(c.profile, rand.Uint64(), nil)
	client := &http.Client{Transport: &http.Transport{DialContext: link.DialContext}, Timeout: 3 * time.Minute}
	return &phone{Device: device.New(device.Options{Client: client, URL: s.url, Token: secret, ID: id, Coding: c.Coding, Batch: c.Batch}),
		link: link, client: client, island: island}, nil
}

func (p *phone) close() {
	p.client.CloseIdleConnections()
	p.link.Close()
}

const farmersEach = 500

// visit makes 500 farmers, with two plots and an answered form each: 2,000 records.
func (p *phone) visit(rng *rand.Rand) {
	for f := range seed.Farmers(rng.Uint64(), farmersEach) {
		fields := map[string]any(f.Fields)
		fields["island"], fields["village"] = p.island, "Vaitupa"
		fields["national_id"] = fmt.Sprintf("BN-%08d", people.Add(1))
		farmer := p.Create("farmer", fields)
		for i := range 2 {
			p.Create("plot", map[string]any{"farmer": farmer, "name": fmt.Sprintf("Plot %d", i+1), "size_ha": float64(rng.IntN(400)) / 100,
				"tenure": "customary", "crop": "taro", "shape": outline(rng)})
		}
		p.Create("submission", map[string]any{"farmer": farmer, "form": form.ID, "form_version": form.Version, "answers": map[string]any{
			"main_crop": form.Questions[0].Choices[rng.IntN(5)], "area_ha": float64(rng.IntN(300)) / 100,
			"planted": fmt.Sprintf("2026-%02d-%02d", 1+rng.IntN(9), 1+rng.IntN(28)), "harvest_kg": rng.IntN(2000), "sold": "yes",
			"pigs": rng.IntN(12), "chickens": rng.IntN(40), "remarks": "track impassable after rain, visit again in the dry season",
		}})
	}
}

// outline is a walk around a field with a phone's GPS: six points to a decimetre.
func outline(rng *rand.Rand) map[string]any {
	east, north := -159.7+rng.Float64()/10, -21.2+rng.Float64()/10
	ring := make([][2]float64, 7)
	for i := range 6 {
		ring[i] = [2]float64{round(east + rng.Float64()/1000), round(north + rng.Float64()/1000)}
	}
	ring[6] = ring[0]
	return map[string]any{"type": "Polygon", "coordinates": [][][2]float64{ring}}
}

func round(degrees float64) float64 { return float64(int64(degrees*1e6)) / 1e6 }

// sync synchronises as an app does: a refusal for the moment, or a broken connection, is tried again.
func (p *phone) sync(ctx context.Context) error {
	for {
		err := p.Sync(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		wait := 2 * time.Second
		if r, ok := errors.AsType[*device.Refusal](err); ok {
			if r.Status < 500 && r.Status != http.StatusTooManyRequests {
				return err
			}
			wait = max(wait, r.Retry)
		}
		p.retries++
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// whole tells what is missing of so many visits.
func (p *phone) whole(visits int) error {
	for entity, each := range map[string]int{"farmer": 1, "plot": 2, "submission": 1} {
		if n := len(p.List(entity)); n != visits*farmersEach*each {
			return fmt.Errorf("a device has %d records of %s after the exchange, not %d", n, entity, visits*farmersEach*each)
		}
	}
	if len(p.Answered) > 0 {
		return fmt.Errorf("%d changes were answered %s", len(p.Answered), p.Answered[0].Outcome)
	}
	return nil
}
