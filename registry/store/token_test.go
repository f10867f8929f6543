package store_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/registry"
	"tidemark/registry/store"
)

func TestTokens(t *testing.T) {
	everywhere(t, func(t *testing.T, s *store.Store) {
		year := now.AddDate(1, 0, 0)
		secret, tablet, err := s.AddToken(t.Context(), registry.Token{Name: "Aitutaki, tablet 7", Scope: registry.Enumerator, Device: "tablet-7", Areas: []string{"Aitutaki", "O'Brien \"x\""}, CreatedAt: now, ExpiresAt: year})
		if err != nil {
			t.Fatal(err)
		}
		other, erp, err := s.AddToken(t.Context(), registry.Token{Name: "erp", Scope: registry.Integration, CreatedAt: now, ExpiresAt: year})
		if err != nil {
			t.Fatal(err)
		}
		if secret == other || len(secret) < 40 || !strings.HasPrefix(secret, "dfr_") {
			t.Error("secrets that are none")
		}
		if got, err := s.Token(t.Context(), secret); err != nil || cmp.Diff(tablet, got) != "" || got.Valid(year.Add(-1)) != nil || !errors.Is(got.Valid(year), registry.ErrExpired) {
			t.Errorf("%v %+v\nwant %+v", err, got, tablet)
		}
		for _, wrong := range []string{"", "dfr_", secret[:len(secret)-1], secret + "x", strings.ToUpper(secret), "' OR ''='", "dfr_' OR ''='", "dfr_\x00"} {
			if got, err := s.Token(t.Context(), wrong); !errors.Is(err, registry.ErrNotFound) {
				t.Errorf("%q: %+v %v", wrong, got, err)
			}
		}

		later := now.Add(time.Hour)
		for _, err := range []error{
			s.TokenUsed(t.Context(), later, erp.ID),
			s.TokenUsed(t.Context(), now, erp.ID), // by a worker whose news is old
			s.RevokeToken(t.Context(), later, tablet.ID),
			s.RevokeToken(t.Context(), later.Add(time.Hour), tablet.ID),
		} {
			if err != nil {
				t.Error(err)
			}
		}
		tablet.RevokedAt, erp.UsedAt = later, later
		all, err := s.Tokens(t.Context())
		if diff := cmp.Diff([]registry.Token{tablet, erp}, all, cmp.Transformer("none", func(a []string) []string { return append([]string{}, a...) })); err != nil || diff != "" {
			t.Error(err, diff)
		}
		if !errors.Is(all[0].Valid(later), registry.ErrRevoked) || all[1].Valid(later) != nil {
			t.Errorf("%+v", all)
		}
		if err := s.RevokeToken(t.Context(), now, 4711); !errors.Is(err, registry.ErrNotFound) {
			t.Error(err)
		}

		for want, bad := range map[string]registry.Token{
			"name":       {Scope: registry.Admin, CreatedAt: now, ExpiresAt: year},
			"scope":      {Name: "x", Scope: "root", CreatedAt: now, ExpiresAt: year},
			"device":     {Name: "x", Scope: registry.Enumerator, Device: "tablet 7", CreatedAt: now, ExpiresAt: year},
			"expires_at": {Name: "x", Scope: registry.Admin, CreatedAt: now, ExpiresAt: now},
		} {
			var faults registry.Faults
			if _, _, err := s.AddToken(t.Context(), bad); !errors.As(err, &faults) || len(faults) != 1 || faults[0].Field != want {
				t.Errorf("%+v: %v", bad, err)
			}
		}
	})
}
