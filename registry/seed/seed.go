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
func Farmers(seed uint64, n int) iter.Seq[registry.Farmer] {
	return func(yield func(registry.Farmer) bool) {
		rng := rand.New(rand.NewPCG(seed, 0x7469646d61726b))
		for i := range n {
			if !yield(farmer(rng, i)) {
				return
			}
		}
	}
}

func farmer(rng *rand.Rand, i int) registry.Farmer {
	c := pickCountry(rng)
	place := pick(rng, c.islands)
	r := registry.Registration{
		UID: uid(rng), FamilyName: pick(rng, c.family), Sex: "female", GivenName: pick(rng, c.female),
		Village: pick(rng, place.villages), Island: place.name, Status: registry.Statuses[0],
	}
	if rng.IntN(100) < 58 { // more men than women are registered as the holder of the land
		r.Sex, r.GivenName = "male", pick(rng, c.male)
	}
	if rng.IntN(4) == 0 {
		middle := c.female
		if r.Sex == "male" {
			middle = c.male
		}
		if m := pick(rng, middle); m != r.GivenName {
			r.GivenName += " " + m
		}
	}
	joined := opened.Add(time.Duration(rng.Int64N(5*365*24*3600*1000)) * time.Millisecond)
	age := 18 + (rng.IntN(60)+rng.IntN(60))/2 // years; most are between 35 and 60
	r.BirthDate = joined.AddDate(-age, 0, -rng.IntN(365)).Format(time.DateOnly)
	if rng.IntN(100) < 96 { // some elders have no papers
		r.NationalID = nationalID(c.prefix, i)
	}
	if rng.IntN(100) < 85 {
		r.Phone = phone(rng, c)
	}
	if roll := rng.IntN(100); roll >= 92 {
		r.Status = registry.Statuses[1+roll%3]
	}
	f := registry.Farmer{Registration: r, CreatedAt: joined, UpdatedAt: joined, Version: 1}
	if rng.IntN(3) == 0 {
		f.Version += 1 + rng.IntN(4)
		f.UpdatedAt = joined.Add(time.Duration(1+rng.IntN(200*24)) * time.Hour)
	}
	return f
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
