# Shared by the scripts of this folder: makes sure that what they need is installed.

say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }

# Runs a command as root: as it is, or with sudo.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# The folder of PostgreSQL's server binaries, newest version last.
find_postgres() {
    if [ -n "${LEDGER_PG_BINDIR:-}" ]; then
        [ -x "$LEDGER_PG_BINDIR/initdb" ] && echo "$LEDGER_PG_BINDIR"
        return
    fi
    local folder version
    for folder in "$(pg_config --bindir 2>/dev/null || true)" /usr/lib/postgresql/*/bin \
        /usr/pgsql-*/bin /usr/bin /opt/homebrew/opt/postgresql@*/bin \
        /usr/local/opt/postgresql@*/bin /Applications/Postgres.app/Contents/Versions/*/bin; do
        [ -x "$folder/initdb" ] && [ -x "$folder/postgres" ] || continue
        # "postgres (PostgreSQL) 15.8 (…)"
        version=$("$folder/postgres" --version | sed 's/^[^0-9]*\([0-9]*\).*/\1/')
        [ "$version" -ge 15 ] && echo "$version $folder"
    done | sort -n | tail -n 1 | cut -d ' ' -f 2-
}

need_postgres() {
    [ -n "$(find_postgres)" ] && return
    if command -v apt-get >/dev/null; then
        say "installing PostgreSQL"
        as_root apt-get update -qq
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq postgresql >/dev/null
    elif command -v dnf >/dev/null; then
        as_root dnf install -y -q postgresql-server
    elif command -v brew >/dev/null; then
        brew install -q postgresql@17
    fi
    if [ -z "$(find_postgres)" ]; then
        say "PostgreSQL 15 or newer is missing: install its server, or set LEDGER_PG_BINDIR"
        exit 1
    fi
}

# Tests time stamps as their authorities make and check them.
need_openssl() {
    command -v openssl >/dev/null && return
    if command -v apt-get >/dev/null; then
        say "installing openssl"
        as_root apt-get update -qq
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq openssl >/dev/null
    else
        say "openssl is missing: install it"
        exit 1
    fi
}

need_pip() {
    python3 -m pip --version >/dev/null 2>&1 && return
    if command -v apt-get >/dev/null; then
        say "installing pip"
        as_root apt-get update -qq
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-pip >/dev/null
    fi
    if ! python3 -m pip --version >/dev/null 2>&1; then
        say "Python 3 with pip is missing: install it"
        exit 1
    fi
}

need_rust() {
    if ! command -v cargo >/dev/null; then
        say "Rust 1.94 or newer is missing: install it from https://rustup.rs"
        exit 1
    fi
    # Some dependencies have parts in C.
    if ! command -v cc >/dev/null; then
        if command -v apt-get >/dev/null; then
            say "installing a C compiler"
            as_root apt-get update -qq
            as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq gcc libc6-dev >/dev/null
        else
            say "a C compiler (cc) is missing"
            exit 1
        fi
    fi
}
