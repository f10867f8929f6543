// Package seed makes up plausible farmers of the Cook Islands, Samoa, Tonga, the Solomon Islands and Vanuatu. The same
// seed gives the same farmers, on every machine and Go version.
package seed

import (
	"encoding/binary"
	"fmt"
	"iter"
	"math/rand/v2"
	"time"

	"tidemark/registry"
)

// Max is the largest number of farmers: national ids are seven digits.
const Max = 10_000_000

// opened is when the registry is taken to have begun; farmers joined in the five years from then.
var opened = time.Date(2020, time.July, 1, 0, 0, 0, 0, time.UTC)

// Villages lists every village that a farmer can live in, in a fixed order.
func Villages() []registry.Village {
	var all []registry.Village
	for _, c := range countries {
		for _, i := range c.islands {
			for _, v := range i.villages {
				all = append(all, registry.Village{Country: c.code, Island: i.name, Name: v})
			}
		}
	}
	return all
}

// Farmers makes n farmers, at most Max. The first k of n are the first k of any other n.
func Farmers(seed uint64, n int) iter.Seq[registry.Record] {
	return func(yield func(registry.Record) bool) {
		rng := rand.New(rand.NewPCG(seed, 0x7469646d61726b))
		for i := range n {
			if !yield(farmer(rng, i)) {
				return
			}
		}
	}
}

func farmer(rng *rand.Rand, i int) registry.Record {
	c := pickCountry(rng)
	place := pick(rng, c.islands)
	r := registry.Record{Entity: "farmer", UID: uid(rng), Version: 1}
	f := registry.Fields{
		"family_name": pick(rng, c.family), "sex": "female", "given_name": pick(rng, c.female),
		"village": pick(rng, place.villages), "island": place.name, "status": "active", "consent": "given",
	}
	r.Fields = f
	if rng.IntN(100) < 58 { // more men than women are registered as the holder of the land
		f["sex"], f["given_name"] = "male", pick(rng, c.male)
	}
	if rng.IntN(4) == 0 {
		middle := c.female
		if f["sex"] == "male" {
			middle = c.male
		}
		if m := pick(rng, middle); m != f["given_name"] {
			f["given_name"] = f.Text("given_name") + " " + m
		}
	}
	r.CreatedAt = opened.Add(time.Duration(rng.Int64N(5*365*24*3600*1000)) * time.Millisecond)
	r.UpdatedAt = r.CreatedAt
	age := 18 + (rng.IntN(60)+rng.IntN(60))/2 // years; most are between 35 and 60
	f["birth_date"] = r.CreatedAt.AddDate(-age, 0, -rng.IntN(365)).Format(time.DateOnly)
	if rng.IntN(100) < 96 { // some elders have no papers
		f["national_id"] = nationalID(c.prefix, i)
	}
	if rng.IntN(100) < 85 {
		f["phone"] = phone(rng, c)
	}
	if roll := rng.IntN(100); roll >= 92 {
		f["status"] = []string{"pending_verification", "inactive", "archived"}[roll%3]
	}
	return r
}

func pick[T any](rng *rand.Rand, from []T) T { return from[rng.IntN(len(from))] }

func pickCountry(rng *rand.Rand) country {
	roll := rng.IntN(100)
	for _, c := range countries {
		if roll -= c.share; roll < 0 {
			return c
		}
	}
	return countries[len(countries)-1]
}

func uid(rng *rand.Rand) string {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], rng.Uint64())
	binary.LittleEndian.PutUint64(b[8:], rng.Uint64())
	return registry.FormatUID(b)
}

// nationalID scatters the farmers over the seven-digit numbers without meeting one twice: the step has no factor in
// common with ten.
func nationalID(prefix string, i int) string {
	return fmt.Sprintf("%s-%07d", prefix, (i*7_368_787+1_234_567)%Max)
}

func phone(rng *rand.Rand, c country) string {
	number := []byte(c.dial + c.mobile)
	for range c.digits - 1 {
		number = append(number, byte('0'+rng.IntN(10)))
	}
	return string(number)
}
