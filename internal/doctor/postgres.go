package doctor

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"tidemark/internal/fleet"
	"tidemark/internal/observe/postgres/wire"
)

// Postgres is what a running server says of itself. Its statistics count since they were last reset.
type Postgres struct {
	Version   string
	Local     bool // it runs on this host
	DataDir   string
	settings  map[string]Value
	units     map[string]string
	Database  string
	Since     time.Time // of the statistics; zero when they were never reset
	Hit, Read float64   // blocks found in the cache, and not
	Used      int       // connections now
	Slow      []Statement
	Times     *Times // nil without pg_stat_statements
	NoTimes   string // why not
	Scans     []Table
	Keys      []ForeignKey
	Dead      []Table
	Busy      float64 // share of this host's cores that its processes take, in percent; only when Local
}

// Statement is one that takes long.
type Statement struct {
	Text  string
	Calls float64
	Mean  float64 // seconds
	Share float64 // of all statements' time, in percent
}

// Times is where the statements' time goes, in seconds.
type Times struct{ Reads, All float64 }

// Table is a table with a figure that speaks of trouble.
type Table struct {
	Name string
	Rows float64
	N    float64 // rows read by a scan on average; dead rows
	Of   float64 // scans
}

// ForeignKey is one whose referencing columns have no index.
type ForeignKey struct {
	Table, Columns, To string
	Rows               float64
}

// settingsWanted are those that a check looks at.
var settingsWanted = []string{
	"max_connections", "superuser_reserved_connections", "reserved_connections", "shared_buffers", "effective_cache_size", "work_mem", "maintenance_work_mem",
	"random_page_cost", "fsync", "full_page_writes", "synchronous_commit", "track_io_timing", "shared_preload_libraries", "idle_in_transaction_session_timeout",
	"statement_timeout", "data_directory", "autovacuum", "server_version",
}

// AskPostgres reads settings and statistics over a connection of its own. The user should have the role pg_monitor.
func AskPostgres(ctx context.Context, dsn string, cpuOver time.Duration) (_ *Postgres, err error) {
	servers := wire.Servers{Limit: 10 * time.Second}
	server, err := servers.Open(wire.PostgreSQL, dsn)
	if err != nil {
		return nil, err
	}
	defer func() { _ = server.Close() }() // only read from
	at := time.Now()
	ask := func(statement string) (*wire.Table, error) { return server.Ask(ctx, at, statement) }
	p := &Postgres{settings: map[string]Value{}, units: map[string]string{}, Local: local(dsn)}
	for _, read := range []func(func(string) (*wire.Table, error)) error{p.readSettings, p.readDatabase, p.readStatements, p.readTables, p.readKeys} {
		if err := read(ask); err != nil {
			return nil, err
		}
	}
	p.Version, _, _ = strings.Cut(p.Setting("server_version").Text, " ")
	p.DataDir = p.Setting("data_directory").Text
	if p.Local {
		if p.Busy, err = busyShare(ctx, "postgres", cpuOver); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// local reports whether a connection string leads to this host.
func local(dsn string) bool {
	var host string
	if u, err := url.Parse(dsn); err == nil && u.Scheme != "" {
		host = u.Hostname()
		if h := u.Query().Get("host"); h != "" {
			host = h
		}
	} else {
		host = params(dsn)["host"]
	}
	switch {
	case host == "", host == "localhost", host == "::1", strings.HasPrefix(host, "127."), strings.HasPrefix(host, "/"):
		return true
	}
	return false
}

// rows calls visit for each row of an answer.
func rows(t *wire.Table, visit func(text func(string) string, number func(string) float64) error) error {
	for i := range t.Len() {
		row, failed := t.Row(i), error(nil)
		text := func(column string) string {
			v, _, err := row.Text(column)
			if err != nil {
				failed = err
			}
			return v
		}
		number := func(column string) float64 {
			v, _, err := row.Number(column)
			if err != nil {
				failed = err
			}
			return v
		}
		if err := visit(text, number); err != nil {
			return err
		}
		if failed != nil {
			return failed
		}
	}
	return nil
}

func (p *Postgres) readSettings(ask func(string) (*wire.Table, error)) error {
	t, err := ask("SELECT name, setting, coalesce(unit, '') AS unit, source, coalesce(sourcefile, '') AS file, coalesce(sourceline, 0) AS line FROM pg_settings WHERE name IN ('" +
		strings.Join(settingsWanted, "', '") + "')")
	if err != nil {
		return fmt.Errorf("read the settings: %w", err)
	}
	return rows(t, func(text func(string) string, number func(string) float64) error {
		v := Value{Name: text("name"), Text: text("setting"), File: text("file"), Line: int(number("line"))}
		if v.File == "" && text("source") != "default" {
			v.File = text("source") // such as "command line"; the file itself is shown to pg_read_all_settings only
		}
		p.settings[v.Name], p.units[v.Name] = v, text("unit")
		return nil
	})
}

// Setting is one of the server's settings, written as an operator would.
func (p *Postgres) Setting(name string) Value {
	v, ok := p.settings[name]
	if !ok {
		return Value{Name: name}
	}
	if n := p.bytes(name); n > 0 {
		v.Text = bytes(n)
	} else if p.units[name] == "ms" {
		v.Text = fleet.Elapsed(time.Duration(v.Int()) * time.Millisecond)
	}
	return v
}

// bytes is a setting that is a size; 0 for others.
func (p *Postgres) bytes(name string) int64 {
	unit := p.units[name]
	scale := map[string]int64{"B": 1, "kB": kib, "8kB": 8 * kib, "MB": mib}[unit]
	return p.settings[name].Int() * scale
}

func (p *Postgres) int(name string) int64 { return p.settings[name].Int() }

func (p *Postgres) readDatabase(ask func(string) (*wire.Table, error)) error {
	t, err := ask(`SELECT datname, blks_hit, blks_read, coalesce(extract(epoch FROM stats_reset), 0) AS since,
		(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS used
		FROM pg_stat_database WHERE datname = current_database()`)
	if err != nil {
		return fmt.Errorf("read the database's statistics: %w", err)
	}
	return rows(t, func(text func(string) string, number func(string) float64) error {
		p.Database, p.Hit, p.Read, p.Used = text("datname"), number("blks_hit"), number("blks_read"), int(number("used"))
		if since := number("since"); since > 0 {
			p.Since = time.Unix(int64(since), 0)
		}
		return nil
	})
}

// slowMean is from when on a statement is slow: the requirements' limit of an API call.
const slowMean = 0.5

func (p *Postgres) readStatements(ask func(string) (*wire.Table, error)) error {
	t, err := ask("SELECT count(*) AS n FROM pg_extension WHERE extname = 'pg_stat_statements'")
	if err != nil {
		return fmt.Errorf("read the extensions: %w", err)
	}
	if n, _, err := t.Only(); err != nil || n == 0 {
		p.NoTimes = "the extension pg_stat_statements is not there: CREATE EXTENSION pg_stat_statements in " + p.Database
		return err
	}
	const mine = "FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
	t, err = ask(`SELECT sum(total_exec_time) / 1000 AS every, sum(CASE WHEN query ILIKE 'select%' AND query NOT ILIKE '%for update%' OR query ILIKE 'with%' AND query NOT ILIKE ALL (ARRAY['%insert %', '%update %', '%delete %'])
		THEN total_exec_time ELSE 0 END) / 1000 AS reads ` + mine)
	if err != nil {
		p.NoTimes = "pg_stat_statements cannot be read: " + err.Error()
		return nil
	}
	p.Times = &Times{}
	if err := rows(t, func(_ func(string) string, number func(string) float64) error {
		p.Times.All, p.Times.Reads = number("every"), number("reads")
		return nil
	}); err != nil {
		return err
	}
	t, err = ask(fmt.Sprintf(`SELECT left(regexp_replace(query, '\s+', ' ', 'g'), 120) AS statement, calls, mean_exec_time / 1000 AS mean, total_exec_time / 1000 AS total %s
		AND calls >= 5 AND mean_exec_time >= %g ORDER BY total_exec_time DESC LIMIT 5`, mine, slowMean*1000))
	if err != nil {
		return fmt.Errorf("read the slow statements: %w", err)
	}
	return rows(t, func(text func(string) string, number func(string) float64) error {
		p.Slow = append(p.Slow, Statement{text("statement"), number("calls"), number("mean"), 100 * number("total") / max(p.Times.All, 1e-9)})
		return nil
	})
}

func (p *Postgres) readTables(ask func(string) (*wire.Table, error)) error {
	t, err := ask(`SELECT schemaname || '.' || relname AS name, n_live_tup AS live, seq_scan AS scans, seq_tup_read::float8 / seq_scan AS each
		FROM pg_stat_user_tables WHERE n_live_tup >= 10000 AND seq_scan >= 100 AND seq_tup_read / seq_scan >= 10000 ORDER BY seq_tup_read DESC LIMIT 5`)
	if err != nil {
		return fmt.Errorf("read the tables' statistics: %w", err)
	}
	if err := rows(t, func(text func(string) string, number func(string) float64) error {
		p.Scans = append(p.Scans, Table{text("name"), number("live"), number("each"), number("scans")})
		return nil
	}); err != nil {
		return err
	}
	t, err = ask(`SELECT schemaname || '.' || relname AS name, n_live_tup AS live, n_dead_tup AS dead FROM pg_stat_user_tables
		WHERE n_dead_tup >= 10000 AND n_dead_tup > 0.3 * n_live_tup ORDER BY n_dead_tup DESC LIMIT 5`)
	if err != nil {
		return fmt.Errorf("read the tables' statistics: %w", err)
	}
	return rows(t, func(text func(string) string, number func(string) float64) error {
		p.Dead = append(p.Dead, Table{Name: text("name"), Rows: number("live"), N: number("dead")})
		return nil
	})
}

func (p *Postgres) readKeys(ask func(string) (*wire.Table, error)) error {
	t, err := ask(`SELECT c.conrelid::regclass::text AS name, c.confrelid::regclass::text AS other, s.n_live_tup AS live,
		(SELECT string_agg(a.attname, ', ' ORDER BY k.n) FROM unnest(c.conkey) WITH ORDINALITY AS k(col, n) JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.col) AS columns
		FROM pg_constraint c JOIN pg_stat_user_tables s ON s.relid = c.conrelid
		WHERE c.contype = 'f' AND s.n_live_tup >= 10000 AND NOT EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = c.conrelid AND i.indpred IS NULL AND (i.indkey::int2[])[0] = ANY (c.conkey))
		ORDER BY s.n_live_tup DESC LIMIT 10`)
	if err != nil {
		return fmt.Errorf("read the foreign keys: %w", err)
	}
	return rows(t, func(text func(string) string, number func(string) float64) error {
		p.Keys = append(p.Keys, ForeignKey{text("name"), text("columns"), text("other"), number("live")})
		return nil
	})
}

// busyShare is the share of this host's cores that the processes of a name take over a while, in percent. What ended
// meanwhile is left out.
func busyShare(ctx context.Context, name string, over time.Duration) (float64, error) {
	before, start := cpuTimes(name), time.Now()
	select {
	case <-time.After(over):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	took, total := time.Since(start).Seconds(), 0.0
	for pid, now := range cpuTimes(name) {
		total += now - before[pid] // one that began meanwhile counts whole
	}
	const ticks = 100 // USER_HZ, on all Linux
	return 100 * total / ticks / took / float64(runtime.NumCPU()), nil
}

// cpuTimes are the clock ticks that each process of a name has used.
func cpuTimes(name string) map[string]float64 {
	out := map[string]float64{}
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // it has ended
		}
		open, end := strings.IndexByte(string(text), '('), strings.LastIndexByte(string(text), ')')
		if open < 0 || end < open || string(text[open+1:end]) != name {
			continue
		}
		fields := strings.Fields(string(text[end+1:]))
		if len(fields) < 13 {
			continue
		}
		user, _ := strconv.ParseFloat(fields[11], 64)
		system, _ := strconv.ParseFloat(fields[12], 64)
		out[f] = user + system
	}
	return out
}
