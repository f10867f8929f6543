#!/bin/sh
# Runs once, when the database is made: the role that Tidemark reads PostgreSQL's and PgBouncer's figures by, and the registry's database.
set -eu
psql -v ON_ERROR_STOP=1 -v password="$TIDEMARK_DB_PASSWORD" --username odoo --dbname postgres <<'SQL'
CREATE ROLE tidemark LOGIN PASSWORD :'password' IN ROLE pg_monitor;
CREATE DATABASE dfr OWNER odoo;
SQL
psql -v ON_ERROR_STOP=1 --username odoo --dbname dfr <<'SQL'
CREATE EXTENSION pg_stat_statements;
-- queue_job is made later, by Odoo's module of that name: Tidemark may read what odoo makes.
ALTER DEFAULT PRIVILEGES FOR ROLE odoo IN SCHEMA public GRANT SELECT ON TABLES TO tidemark;
SQL
