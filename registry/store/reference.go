package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"

	"tidemark/registry"
)

// village finds a village by its name, and its island when one is given, whatever the spelling of case and accents.
// Villages are few and seldom change: they are kept in memory, and read again when a name is not found.
func (s *Store) village(ctx context.Context, on querier, name, island string) (v registry.Village, fault *registry.Fault, err error) {
	for fresh := range 2 {
		all, err := s.allVillages(ctx, on, fresh == 1)
		if err != nil {
			return v, nil, err
		}
		n := 0
		for _, known := range all {
			if registry.Fold(known.Name) == registry.Fold(name) && (island == "" || registry.Fold(known.Island) == registry.Fold(island)) {
				v = known
				n++
			}
		}
		switch {
		case n == 1:
			return v, nil, nil
		case n > 1:
			return v, &registry.Fault{Field: "island", Detail: "is required: more than one island has a village of this name"}, nil
		}
	}
	return v, &registry.Fault{Field: "village", Detail: "is not a village of this registry, or not on this island"}, nil
}

func (s *Store) allVillages(ctx context.Context, on querier, fresh bool) ([]registry.Village, error) {
	s.mu.Lock()
	known := s.villages
	s.mu.Unlock()
	if known != nil && !fresh {
		return known, nil
	}
	all := []registry.Village{}
	err := s.each(ctx, on, func(rows *sql.Rows) error {
		var v registry.Village
		err := rows.Scan(&v.Country, &v.Island, &v.Name)
		all = append(all, v)
		return err
	}, "SELECT country, island, name FROM village ORDER BY country, island, name")
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.villages = all
	s.mu.Unlock()
	return all, nil
}

// Villages lists all villages by country, island and name.
func (s *Store) Villages(ctx context.Context) ([]registry.Village, error) {
	all, err := s.allVillages(ctx, s.db, true)
	if err != nil {
		return nil, fmt.Errorf("read villages: %w", s.explain(err))
	}
	return slices.Clone(all), nil
}

// AddVillages adds those that are not there yet.
func (s *Store) AddVillages(ctx context.Context, villages []registry.Village) error {
	rows := make([][]any, len(villages))
	for i, v := range villages {
		rows[i] = []any{v.Country, v.Island, v.Name}
	}
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		return s.insert(ctx, tx, "village", []string{"country", "island", "name"}, rows, " ON CONFLICT (island, name) DO NOTHING")
	})
	if err != nil {
		return fmt.Errorf("add villages: %w", err)
	}
	return nil
}

// Forms returns the newest version of each form, by id.
func (s *Store) Forms(ctx context.Context) ([]registry.Form, error) {
	all := []registry.Form{}
	err := s.each(ctx, s.db, func(rows *sql.Rows) error {
		f, err := scanForm(rows)
		if err == nil {
			all = append(all, *f)
		}
		return err
	}, "SELECT body FROM form f WHERE version = (SELECT max(version) FROM form WHERE id = f.id) ORDER BY id")
	if err != nil {
		return nil, fmt.Errorf("read forms: %w", s.explain(err))
	}
	return all, nil
}

// AddForm adds a form, or a version of one. A version that is there already is left as it is.
func (s *Store) AddForm(ctx context.Context, f registry.Form) error {
	if faults := f.Check(); faults != nil {
		return faults
	}
	text, err := json.Marshal(f)
	if err != nil {
		return err
	}
	err = s.inTx(ctx, func(tx *sql.Tx) error {
		return s.insert(ctx, tx, "form", []string{"id", "version", "body"}, [][]any{{f.ID, f.Version, string(text)}}, " ON CONFLICT (id, version) DO NOTHING")
	})
	if err != nil {
		return fmt.Errorf("add form %s: %w", f.ID, err)
	}
	return nil
}

func scanForm(rows *sql.Rows) (*registry.Form, error) {
	var text string
	if err := rows.Scan(&text); err != nil {
		return nil, err
	}
	f := new(registry.Form)
	if err := json.Unmarshal([]byte(text), f); err != nil {
		return nil, fmt.Errorf("a stored form: %w", err)
	}
	return f, nil
}
