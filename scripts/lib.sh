# Shared by the scripts of this folder: makes sure that what they need is installed.

say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }

# Runs a command as root: as it is, or with sudo.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

apt_install() {
    as_root apt-get update -qq &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" >/dev/null
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
        apt_install postgresql
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
        apt_install openssl
    else
        say "openssl is missing: install it"
        exit 1
    fi
}

need_pip() {
    python3 -m pip --version >/dev/null 2>&1 && return
    if command -v apt-get >/dev/null; then
        say "installing pip"
        apt_install python3-pip
    fi
    if ! python3 -m pip --version >/dev/null 2>&1; then
        say "Python 3 with pip is missing: install it"
        exit 1
    fi
}

# Tests of the dashboard, and the packages that they use.
need_node() {
    has_node && return
    if command -v apt-get >/dev/null; then
        say "installing Node.js and npm"
        apt_install nodejs npm || true
    elif command -v dnf >/dev/null; then
        as_root dnf install -y -q nodejs npm || true
    fi
    if ! has_node; then
        say "Node.js 18 or newer with npm is missing: install it"
        exit 1
    fi
}

has_node() {
    command -v npm >/dev/null &&
        node -e 'process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)' 2>/dev/null
}

# The browser that the dashboard is tested in. What only looks like one (a package's hint that
# there is another way to install it) cannot say its version.
find_chromium() {
    local name
    for name in ${CHROMIUM:+"$CHROMIUM"} chromium chromium-browser google-chrome; do
        "$name" --version >/dev/null 2>&1 && command -v "$name" && return
        # One that was named is the one that is meant.
        [ -n "${CHROMIUM:-}" ] && return
    done
    return 0
}

need_chromium() {
    [ -n "$(find_chromium)" ] && return
    if [ -z "${CHROMIUM:-}" ] && command -v apt-get >/dev/null; then
        say "installing Chromium"
        apt_install chromium || true
    elif [ -z "${CHROMIUM:-}" ] && command -v dnf >/dev/null; then
        as_root dnf install -y -q chromium || true
    fi
    if [ -z "$(find_chromium)" ]; then
        say "Chromium or Chrome is missing: install it, or set CHROMIUM to the program"
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
            apt_install gcc libc6-dev
        else
            say "a C compiler (cc) is missing"
            exit 1
        fi
    fi
}
