-- Bearer tokens of the API.
CREATE TABLE token (
  id         INTEGER PRIMARY KEY,
  hash       TEXT NOT NULL UNIQUE, -- SHA-256 of the secret, which nobody keeps but its holder
  name       TEXT NOT NULL,
  scope      TEXT NOT NULL, -- enumerator, admin, integration
  device     TEXT NOT NULL,
  areas      TEXT NOT NULL, -- JSON: islands, [] for all
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  revoked_at INTEGER NOT NULL DEFAULT 0,
  used_at    INTEGER NOT NULL DEFAULT 0
) STRICT;
