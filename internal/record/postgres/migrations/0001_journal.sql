-- All times are nanoseconds since 1970-01-01 UTC: to_timestamp(t / 1e9) reads them. The tables are those of record/sqlite's journal,
-- and lead beside them.

CREATE TABLE fleets (
  id       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name     TEXT COLLATE "C" NOT NULL UNIQUE,
  n        BIGINT NOT NULL DEFAULT 0, -- ticks committed so far: the number of the last one
  folded   BIGINT NOT NULL DEFAULT 0, -- ticks up to this number are in the roll-ups
  tail     BIGINT,                    -- the earliest time of those that are not
  state_at BIGINT,
  state    BYTEA                      -- the engine's, opaque
) WITH (fillfactor = 50);

CREATE TABLE series (
  id     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  fleet  BIGINT NOT NULL,
  signal TEXT COLLATE "C" NOT NULL,
  UNIQUE (fleet, signal)
);

-- One row holds all readings of one tick.
CREATE TABLE ticks (
  fleet    BIGINT NOT NULL,
  t        BIGINT NOT NULL,
  n        BIGINT NOT NULL,
  readings BYTEA NOT NULL, -- see tables/codec.go
  PRIMARY KEY (fleet, t, n)
);

-- Roll-ups: n fresh readings with their extremes and sum, and how many were not fresh.
CREATE TABLE minutes (
  series  BIGINT NOT NULL,
  t       BIGINT NOT NULL, -- start of the 5 minutes
  n       BIGINT NOT NULL,
  missing BIGINT NOT NULL,
  low     DOUBLE PRECISION,
  high    DOUBLE PRECISION,
  sum     DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (series, t)
);

CREATE TABLE hours (
  series  BIGINT NOT NULL,
  t       BIGINT NOT NULL, -- start of the hour
  n       BIGINT NOT NULL,
  missing BIGINT NOT NULL,
  low     DOUBLE PRECISION,
  high    DOUBLE PRECISION,
  sum     DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (series, t)
);

CREATE TABLE decisions (
  id        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  fleet     BIGINT NOT NULL,
  t         BIGINT NOT NULL,
  from_size INTEGER NOT NULL,
  to_size   INTEGER NOT NULL,
  shadow    BOOLEAN NOT NULL,
  body      TEXT NOT NULL -- fleet.Decision as JSON
);
CREATE INDEX decisions_fleet_t ON decisions (fleet, t, id);

CREATE TABLE events (
  id    BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  fleet TEXT COLLATE "C" NOT NULL, -- '' for those of the daemon itself
  t     BIGINT NOT NULL,
  kind  TEXT NOT NULL,
  body  TEXT NOT NULL -- fleet.Event as JSON
);
CREATE INDEX events_fleet ON events (fleet, id, t);
CREATE INDEX events_t ON events (t);

-- What is older than since has been deleted from the table, or may have been.
CREATE TABLE kept (
  tier  TEXT PRIMARY KEY,
  since BIGINT NOT NULL
);

-- Who leads: one row. Each transaction of a leader raises written where the generation is its own; where it is not, nothing of the
-- transaction comes to be.
CREATE TABLE lead (
  one        BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one),
  generation BIGINT NOT NULL DEFAULT 0,
  written    BIGINT NOT NULL DEFAULT 0,       -- transactions of this generation
  resigned   BOOLEAN NOT NULL DEFAULT TRUE,   -- nobody leads, and the next one need not wait
  holder     TEXT NOT NULL DEFAULT '',        -- for people: host and pid
  since      TIMESTAMPTZ NOT NULL DEFAULT now() -- for people: of the generation
) WITH (fillfactor = 10);
INSERT INTO lead DEFAULT VALUES;
