package wire

import (
	"net/url"
	"strings"

	"tidemark/internal/config"
)

// CheckDSN finds what is wrong with a connection string without opening anything. It never repeats it: it may hold a password.
// database, unless empty, is the only one that makes sense; example is what a right one looks like.
func CheckDSN(errs *config.FieldErrors, dsn, database, example string) {
	if dsn == "" {
		errs.Add("dsn", "is missing", "write "+example+", or ${NAME} to take it from the environment")
		return
	}
	name, ok := databaseOf(dsn)
	switch {
	case !ok:
		errs.Add("dsn", "is no connection string", "write "+example+"; in a password, % is written %25, @ is %40, / is %2F and : is %3A")
	case database != "" && name != database:
		errs.Add("dsn", "leads to another database than "+database, "write "+example)
	}
}

// databaseOf is the database in a connection string of either form; empty when it names none.
func databaseOf(dsn string) (name string, ok bool) {
	if strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://") {
		u, err := url.Parse(dsn)
		if err != nil {
			return "", false
		}
		name = strings.TrimPrefix(u.Path, "/")
		if q := u.Query().Get("dbname"); q != "" {
			name = q
		}
		return name, true
	}
	if strings.Contains(dsn, "://") || !strings.Contains(dsn, "=") {
		return "", false
	}
	for _, word := range strings.Fields(dsn) {
		if key, value, _ := strings.Cut(word, "="); key == "dbname" {
			name = strings.Trim(value, "'")
		}
	}
	return name, true
}
