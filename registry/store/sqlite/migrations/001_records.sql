-- Times are milliseconds since 1970 UTC, 0 for none. Empty text is ''.
CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
INSERT INTO counter VALUES ('change', 0);

CREATE TABLE village (
  country TEXT NOT NULL,
  island  TEXT NOT NULL,
  name    TEXT NOT NULL,
  PRIMARY KEY (island, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE household (
  id         INTEGER PRIMARY KEY,
  uid        TEXT NOT NULL UNIQUE,
  version    INTEGER NOT NULL,
  deleted    INTEGER NOT NULL,
  area       TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  name       TEXT NOT NULL,
  village    TEXT NOT NULL,
  island     TEXT NOT NULL,
  size       REAL
) STRICT;

CREATE TABLE farmer (
  id          INTEGER PRIMARY KEY,
  uid         TEXT NOT NULL UNIQUE,
  version     INTEGER NOT NULL,
  deleted     INTEGER NOT NULL,
  area        TEXT NOT NULL,
  created_at  INTEGER NOT NULL,
  updated_at  INTEGER NOT NULL,
  household   TEXT NOT NULL,
  given_name  TEXT NOT NULL,
  family_name TEXT NOT NULL,
  birth_date  TEXT NOT NULL,
  sex         TEXT NOT NULL,
  national_id TEXT NOT NULL,
  phone       TEXT NOT NULL,
  village     TEXT NOT NULL,
  island      TEXT NOT NULL,
  status      TEXT NOT NULL,
  consent     TEXT NOT NULL,
  note        TEXT NOT NULL,
  name_key    TEXT NOT NULL, -- registry.Fold("family given"), and the other way round: either name finds the farmer
  other_key   TEXT NOT NULL,
  village_key TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX farmer_national_id ON farmer (national_id) WHERE national_id <> '';
CREATE INDEX farmer_name ON farmer (name_key);
CREATE INDEX farmer_other ON farmer (other_key);
CREATE INDEX farmer_village_name ON farmer (village_key, name_key);
CREATE INDEX farmer_village_other ON farmer (village_key, other_key);
CREATE INDEX farmer_household ON farmer (household) WHERE household <> '';
CREATE INDEX farmer_status ON farmer (status, uid);
CREATE VIRTUAL TABLE farmer_trigram USING fts5 (name_key, content = 'farmer', content_rowid = 'id', tokenize = 'trigram');
CREATE TRIGGER farmer_trigram_insert AFTER INSERT ON farmer BEGIN
  INSERT INTO farmer_trigram (rowid, name_key) VALUES (new.id, new.name_key);
END;
CREATE TRIGGER farmer_trigram_update AFTER UPDATE OF name_key ON farmer WHEN old.name_key <> new.name_key BEGIN
  INSERT INTO farmer_trigram (farmer_trigram, rowid, name_key) VALUES ('delete', old.id, old.name_key);
  INSERT INTO farmer_trigram (rowid, name_key) VALUES (new.id, new.name_key);
END;

CREATE TABLE member (
  id          INTEGER PRIMARY KEY,
  uid         TEXT NOT NULL UNIQUE,
  version     INTEGER NOT NULL,
  deleted     INTEGER NOT NULL,
  area        TEXT NOT NULL,
  created_at  INTEGER NOT NULL,
  updated_at  INTEGER NOT NULL,
  household   TEXT NOT NULL,
  given_name  TEXT NOT NULL,
  family_name TEXT NOT NULL,
  birth_date  TEXT NOT NULL,
  sex         TEXT NOT NULL,
  relation    TEXT NOT NULL
) STRICT;
CREATE INDEX member_household ON member (household);

CREATE TABLE plot (
  id         INTEGER PRIMARY KEY,
  uid        TEXT NOT NULL UNIQUE,
  version    INTEGER NOT NULL,
  deleted    INTEGER NOT NULL,
  area       TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  farmer     TEXT NOT NULL,
  name       TEXT NOT NULL,
  size_ha    REAL,
  tenure     TEXT NOT NULL,
  crop       TEXT NOT NULL,
  shape      TEXT NOT NULL -- GeoJSON
) STRICT;
CREATE INDEX plot_farmer ON plot (farmer);

CREATE TABLE form (
  id      TEXT NOT NULL,
  version INTEGER NOT NULL,
  body    TEXT NOT NULL, -- JSON
  PRIMARY KEY (id, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE submission (
  id           INTEGER PRIMARY KEY,
  uid          TEXT NOT NULL UNIQUE,
  version      INTEGER NOT NULL,
  deleted      INTEGER NOT NULL,
  area         TEXT NOT NULL,
  created_at   INTEGER NOT NULL,
  updated_at   INTEGER NOT NULL,
  farmer       TEXT NOT NULL,
  form         TEXT NOT NULL,
  form_version REAL,
  answers      TEXT NOT NULL -- JSON
) STRICT;
CREATE INDEX submission_farmer ON submission (farmer);

-- The audit trail: what each version of a record changed, by whom.
CREATE TABLE revision (
  uid       TEXT NOT NULL,
  version   INTEGER NOT NULL,
  entity    TEXT NOT NULL,
  op        TEXT NOT NULL,
  actor     TEXT NOT NULL,
  at        INTEGER NOT NULL,
  client_at INTEGER NOT NULL, -- as the device said
  fields    TEXT NOT NULL,    -- JSON: {name: {old, new}}
  PRIMARY KEY (uid, version)
) STRICT, WITHOUT ROWID;

-- The sequence of changes: the last number of each record in each area that it is or was in.
CREATE TABLE change (
  uid    TEXT NOT NULL,
  area   TEXT NOT NULL,
  entity TEXT NOT NULL,
  seq    INTEGER NOT NULL UNIQUE,
  gone   INTEGER NOT NULL,
  PRIMARY KEY (uid, area)
) STRICT, WITHOUT ROWID;
CREATE INDEX change_area ON change (area, seq);

-- The answers given to devices' op ids.
CREATE TABLE op (
  device TEXT NOT NULL,
  op_id  TEXT NOT NULL,
  result TEXT NOT NULL, -- JSON
  at     INTEGER NOT NULL,
  PRIMARY KEY (device, op_id)
) STRICT, WITHOUT ROWID;

-- The last synchronisation of each device.
CREATE TABLE sync_session (
  device     TEXT PRIMARY KEY,
  started_at INTEGER NOT NULL,
  seen_at    INTEGER NOT NULL,
  open       INTEGER NOT NULL -- until a pull has brought the last page
) STRICT, WITHOUT ROWID;

-- What a person must decide.
CREATE TABLE review (
  id          INTEGER PRIMARY KEY,
  kind        TEXT NOT NULL, -- conflict, duplicate, preregistration
  entity      TEXT NOT NULL,
  uid         TEXT NOT NULL,
  op          TEXT NOT NULL,
  base        INTEGER NOT NULL,
  fields      TEXT NOT NULL, -- JSON: what was wanted
  of_uid      TEXT NOT NULL,
  area        TEXT NOT NULL,
  actor       TEXT NOT NULL,
  client_at   INTEGER NOT NULL,
  created_at  INTEGER NOT NULL,
  state       TEXT NOT NULL, -- open, accepted, rejected
  reference   TEXT NOT NULL DEFAULT '', -- of a preregistration: what the sender asks about it by
  resolved_at INTEGER NOT NULL DEFAULT 0,
  resolved_by TEXT NOT NULL DEFAULT '',
  note        TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX review_open ON review (state, kind, id);
CREATE INDEX review_uid ON review (uid);
CREATE UNIQUE INDEX review_reference ON review (reference) WHERE reference <> '';

CREATE TABLE job (
  id          INTEGER PRIMARY KEY,
  channel     TEXT NOT NULL,
  method      TEXT NOT NULL,
  payload     TEXT NOT NULL,
  identity    TEXT NOT NULL,
  state       TEXT NOT NULL, -- pending, started, done, failed
  eta         INTEGER NOT NULL,
  retry       INTEGER NOT NULL,
  max_retries INTEGER NOT NULL,
  priority    INTEGER NOT NULL,
  created_at  INTEGER NOT NULL,
  started_at  INTEGER NOT NULL DEFAULT 0,
  done_at     INTEGER NOT NULL DEFAULT 0,
  exc_info    TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE UNIQUE INDEX job_identity ON job (identity) WHERE state = 'pending' AND identity <> '';
CREATE INDEX job_next ON job (priority, id) WHERE state IN ('pending', 'started');

-- The queue under the names of OCA's queue_job.
CREATE VIEW queue_job AS
SELECT id, method AS method_name, channel, state, priority, retry, max_retries, identity AS identity_key, exc_info,
       datetime(created_at / 1000, 'unixepoch') AS date_created,
       CASE WHEN eta > 0 THEN datetime(eta / 1000, 'unixepoch') END AS eta,
       CASE WHEN started_at > 0 THEN datetime(started_at / 1000, 'unixepoch') END AS date_started,
       CASE WHEN done_at > 0 THEN datetime(done_at / 1000, 'unixepoch') END AS date_done
  FROM job;
