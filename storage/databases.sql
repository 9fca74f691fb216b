-- The ledger's database and Prefect's, each with a role of its own, on a new Postgres server.
-- Run by psql as the superuser: by docker-compose.yml when the server's volume is new, and by
-- 'make stack'.  Passwords come from the environment, so none is written down.
\set ON_ERROR_STOP on
\getenv edco_password EDCO_DB_PASSWORD
\getenv prefect_password PREFECT_DB_PASSWORD

CREATE ROLE edco LOGIN PASSWORD :'edco_password';
CREATE DATABASE edco OWNER edco;
REVOKE ALL ON DATABASE edco FROM PUBLIC;

CREATE ROLE prefect LOGIN PASSWORD :'prefect_password';
CREATE DATABASE prefect OWNER prefect;
REVOKE ALL ON DATABASE prefect FROM PUBLIC;
