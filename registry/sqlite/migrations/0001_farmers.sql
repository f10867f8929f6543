CREATE TABLE village (
  id      INTEGER PRIMARY KEY,
  country TEXT NOT NULL,
  island  TEXT NOT NULL,
  name    TEXT NOT NULL,
  key     TEXT NOT NULL,          -- registry.Fold(name)
  island_key TEXT NOT NULL,
  UNIQUE (key, island_key)
) STRICT;

CREATE TABLE farmer (
  id          INTEGER PRIMARY KEY,
  uid         TEXT NOT NULL,
  given_name  TEXT NOT NULL,
  family_name TEXT NOT NULL,
  birth_date  TEXT NOT NULL,      -- YYYY-MM-DD
  sex         TEXT NOT NULL,
  national_id TEXT NOT NULL,      -- empty when unknown, else unique
  phone       TEXT NOT NULL,
  village_id  INTEGER NOT NULL REFERENCES village (id),
  status      TEXT NOT NULL,
  created_at  INTEGER NOT NULL,   -- milliseconds since 1970 UTC
  updated_at  INTEGER NOT NULL,
  version     INTEGER NOT NULL,
  name_key    TEXT NOT NULL,      -- registry.Fold(family given): the same farmer is found by
  other_key   TEXT NOT NULL       -- registry.Fold(given family): either name, or both in either order
) STRICT;
CREATE UNIQUE INDEX farmer_uid ON farmer (uid);
CREATE UNIQUE INDEX farmer_national_id ON farmer (national_id) WHERE national_id <> '';
CREATE INDEX farmer_name ON farmer (name_key);
CREATE INDEX farmer_other ON farmer (other_key);
CREATE INDEX farmer_village_name ON farmer (village_id, name_key);
CREATE INDEX farmer_village_other ON farmer (village_id, other_key);
