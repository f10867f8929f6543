-- People who may sign in to the admin pages.
CREATE TABLE account (
  id           INTEGER PRIMARY KEY,
  name         TEXT NOT NULL UNIQUE,
  password     TEXT NOT NULL, -- Argon2id in PHC string format
  role         TEXT NOT NULL, -- viewer, officer, administrator
  areas        TEXT NOT NULL, -- JSON: islands, [] for all
  created_at   INTEGER NOT NULL,
  disabled_at  INTEGER NOT NULL DEFAULT 0,
  signed_in_at INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE session (
  hash       TEXT PRIMARY KEY, -- SHA-256 of the secret in the cookie
  account    INTEGER NOT NULL REFERENCES account (id),
  created_at INTEGER NOT NULL,
  seen_at    INTEGER NOT NULL -- to the minute
) STRICT, WITHOUT ROWID;
CREATE INDEX session_account ON session (account);
CREATE INDEX session_seen ON session (seen_at);

-- The audit of sign-ins.
CREATE TABLE sign_in (
  id      INTEGER PRIMARY KEY,
  account INTEGER NOT NULL REFERENCES account (id),
  at      INTEGER NOT NULL,
  what    TEXT NOT NULL, -- signed_in, refused, signed_out, exported
  address TEXT NOT NULL
) STRICT;
CREATE INDEX sign_in_account ON sign_in (account, id);
CREATE INDEX sign_in_at ON sign_in (at);

-- How often something was tried, so that all workers agree on who must wait.
CREATE TABLE throttle (
  key   TEXT PRIMARY KEY, -- such as sign-in-from:192.0.2.7
  tries INTEGER NOT NULL,
  at    INTEGER NOT NULL, -- the last time
  until INTEGER NOT NULL  -- may not be tried again before
) STRICT, WITHOUT ROWID;
CREATE INDEX throttle_at ON throttle (at);

-- Counts that all workers share.
CREATE TABLE tally (
  name TEXT PRIMARY KEY,
  body TEXT NOT NULL, -- JSON
  at   INTEGER NOT NULL,
  took INTEGER NOT NULL -- ms
) STRICT, WITHOUT ROWID;
INSERT INTO tally VALUES ('records', '{}', 0, 0);

CREATE INDEX review_queue ON review (state, id);
CREATE INDEX farmer_status_name ON farmer (status, name_key);

-- What is counted is counted from these alone.
CREATE INDEX household_area ON household (area) WHERE NOT deleted;
CREATE INDEX farmer_area ON farmer (area, status) WHERE NOT deleted;
CREATE INDEX member_area ON member (area) WHERE NOT deleted;
CREATE INDEX plot_area ON plot (area) WHERE NOT deleted;
CREATE INDEX submission_area ON submission (area) WHERE NOT deleted;
