-- All times are nanoseconds since 1970-01-01 UTC: datetime(t / 1000000000, 'unixepoch') reads them.

CREATE TABLE fleets (
  id       INTEGER PRIMARY KEY,
  name     TEXT NOT NULL UNIQUE,
  n        INTEGER NOT NULL DEFAULT 0, -- ticks committed so far: the number of the last one
  folded   INTEGER NOT NULL DEFAULT 0, -- ticks up to this number are in the roll-ups
  tail     INTEGER,                    -- the earliest time of those that are not
  state_at INTEGER,
  state    BLOB                        -- the engine's, opaque
) STRICT;

CREATE TABLE series (
  id     INTEGER PRIMARY KEY,
  fleet  INTEGER NOT NULL,
  signal TEXT NOT NULL,
  UNIQUE (fleet, signal)
) STRICT;

-- One row holds all readings of one tick, so that a tick of a fleet writes one page, however many signals it has.
CREATE TABLE ticks (
  fleet    INTEGER NOT NULL,
  t        INTEGER NOT NULL,
  n        INTEGER NOT NULL,
  readings BLOB NOT NULL, -- see codec.go
  PRIMARY KEY (fleet, t, n)
) STRICT, WITHOUT ROWID;

-- Roll-ups: n fresh readings with their extremes and sum, and how many were not fresh.
CREATE TABLE minutes (
  series  INTEGER NOT NULL,
  t       INTEGER NOT NULL, -- start of the 5 minutes
  n       INTEGER NOT NULL,
  missing INTEGER NOT NULL,
  low     REAL,
  high    REAL,
  sum     REAL NOT NULL,
  PRIMARY KEY (series, t)
) STRICT, WITHOUT ROWID;

CREATE TABLE hours (
  series  INTEGER NOT NULL,
  t       INTEGER NOT NULL, -- start of the hour
  n       INTEGER NOT NULL,
  missing INTEGER NOT NULL,
  low     REAL,
  high    REAL,
  sum     REAL NOT NULL,
  PRIMARY KEY (series, t)
) STRICT, WITHOUT ROWID;

CREATE TABLE decisions (
  id        INTEGER PRIMARY KEY,
  fleet     INTEGER NOT NULL,
  t         INTEGER NOT NULL,
  from_size INTEGER NOT NULL,
  to_size   INTEGER NOT NULL,
  shadow    INTEGER NOT NULL,
  body      TEXT NOT NULL -- fleet.Decision as JSON
) STRICT;
CREATE INDEX decisions_fleet_t ON decisions (fleet, t);

CREATE TABLE events (
  id    INTEGER PRIMARY KEY AUTOINCREMENT, -- never given twice, also when old ones are gone
  fleet TEXT NOT NULL,                     -- '' for those of the daemon itself
  t     INTEGER NOT NULL,
  kind  TEXT NOT NULL,
  body  TEXT NOT NULL -- fleet.Event as JSON
) STRICT;
CREATE INDEX events_fleet ON events (fleet, id, t);
CREATE INDEX events_t ON events (t);

-- What is older than since has been deleted from the table, or may have been.
CREATE TABLE kept (
  tier  TEXT PRIMARY KEY,
  since INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
