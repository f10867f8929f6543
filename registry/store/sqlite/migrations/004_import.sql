-- Files of farmers that people have sent, and how far each has come.
CREATE TABLE import (
  id         INTEGER PRIMARY KEY,
  name       TEXT NOT NULL, -- of the file
  header     TEXT NOT NULL, -- JSON: the columns, as the file names them
  actor      TEXT NOT NULL,
  areas      TEXT NOT NULL, -- JSON: the actor's islands, [] for all
  state      TEXT NOT NULL, -- waiting, running, done, failed, cancelled
  fault      TEXT NOT NULL DEFAULT '', -- why it failed
  total      INTEGER NOT NULL, -- rows, as are those below
  done       INTEGER NOT NULL DEFAULT 0,
  created    INTEGER NOT NULL DEFAULT 0,
  updated    INTEGER NOT NULL DEFAULT 0,
  conflict   INTEGER NOT NULL DEFAULT 0,
  duplicate  INTEGER NOT NULL DEFAULT 0,
  rejected   INTEGER NOT NULL DEFAULT 0,
  created_at INTEGER NOT NULL,
  started_at INTEGER NOT NULL DEFAULT 0,
  done_at    INTEGER NOT NULL DEFAULT 0
) STRICT;

-- The file itself, until it is imported.
CREATE TABLE import_chunk (
  import INTEGER NOT NULL,
  n      INTEGER NOT NULL, -- from 0
  data   BLOB NOT NULL,
  PRIMARY KEY (import, n)
) STRICT;

-- The rows that somebody must look at.
CREATE TABLE import_error (
  import INTEGER NOT NULL,
  n      INTEGER NOT NULL, -- of the row, from 1
  cells  TEXT NOT NULL, -- JSON: as the file has them
  error  TEXT NOT NULL,
  PRIMARY KEY (import, n)
) STRICT, WITHOUT ROWID;

INSERT INTO counter VALUES ('job', 0);

-- The search for duplicates: who was born on a day, and perhaps lives in a village.
CREATE INDEX farmer_birth_date ON farmer (birth_date, village_key);
-- One question for each pair.
CREATE UNIQUE INDEX review_pair ON review (uid, of_uid) WHERE kind = 'duplicate' AND actor = 'job:dedup';
