package seed

import (
	"context"
	"iter"

	"tidemark/registry"
	"tidemark/registry/store"
)

// Fill writes the villages and n farmers into an empty registry. progress, which may be nil, hears the number of farmers
// written so far.
func Fill(ctx context.Context, s *store.Store, farmers iter.Seq[registry.Record], progress func(int)) error {
	if err := s.AddVillages(ctx, Villages()); err != nil {
		return err
	}
	e := registry.EntityNamed("farmer")
	return s.Load(ctx, e.Name, store.Columns(e), func(yield func([]any) bool) {
		n := 0
		for f := range farmers {
			if !yield(store.Row(e, &f, f.Fields.Text("island"))) {
				return
			}
			if n++; n%1000 == 0 && progress != nil {
				progress(n)
			}
		}
	})
}
