package seed

import (
	"context"
	"iter"

	"tidemark/registry"
	"tidemark/registry/store"
)

// Fill writes the villages, the forms that the records answer, and the records into an empty registry. progress, which
// may be nil, hears the number of farmers written so far.
func Fill(ctx context.Context, s *store.Store, records iter.Seq[registry.Record], progress func(int)) error {
	if err := s.AddVillages(ctx, Villages()); err != nil {
		return err
	}
	answered := false
	err := s.Load(ctx, func(yield func(registry.Record) bool) {
		for r := range records {
			answered = answered || r.Entity == "submission"
			if !yield(r) {
				return
			}
		}
	}, progress)
	if err != nil || !answered {
		return err
	}
	for _, f := range Forms() {
		if err := s.AddForm(ctx, f); err != nil {
			return err
		}
	}
	return nil
}
