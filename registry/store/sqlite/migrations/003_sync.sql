-- What each request of a device's synchronisation came to: why is this device behind?
CREATE TABLE sync_log (
  id             INTEGER PRIMARY KEY,
  device         TEXT NOT NULL,
  at             INTEGER NOT NULL,
  took           INTEGER NOT NULL, -- milliseconds
  op             TEXT NOT NULL,   -- push, pull
  batch_id       TEXT NOT NULL,
  app            TEXT NOT NULL,   -- User-Agent
  protocol       INTEGER NOT NULL, -- 0: not said
  schema_version INTEGER NOT NULL,
  status         INTEGER NOT NULL, -- of the answer
  problem        TEXT NOT NULL,   -- why it was refused
  received       INTEGER NOT NULL, -- bytes of the body, compressed as it came
  sent           INTEGER NOT NULL, -- bytes of the answer, likewise
  outcomes       TEXT NOT NULL,   -- JSON: changes by outcome, and replayed
  records        INTEGER NOT NULL, -- sent, tombstones too
  more           INTEGER NOT NULL -- another page was to come
) STRICT;
CREATE INDEX sync_log_device ON sync_log (device, at);
CREATE INDEX op_at ON op (device, at);
