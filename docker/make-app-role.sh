#!/bin/bash
# Makes the service's role with its password; the migrations find it and give it its rights.
set -euo pipefail
psql --username postgres --dbname "$POSTGRES_DB" --set ON_ERROR_STOP=1 \
    --set password="$(cat /run/secrets/app_password)" <<'SQL'
CREATE ROLE app_trading LOGIN PASSWORD :'password';
SQL
