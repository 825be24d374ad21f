# Sourced by the scripts beside it: what a fresh Debian machine lacks.

# The oldest Rust that builds gpurun (rust-version in Cargo.toml).
rust_minimum=1.91

# As root, through sudo where that takes it.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "${0##*/}: '$*' needs root, and sudo is not installed: run this as root" >&2
        return 1
    fi
}

# is_static FILE: whether a program runs without shared libraries.
is_static() { ! ldd "$1" 2>/dev/null | grep -q '=>'; }

# need_packages PROGRAM=PACKAGE...: installs the packages of those programs that are not there. A
# program that came from elsewhere is left alone.
need_packages() {
    local pair program missing=()
    for pair in "$@"; do
        program=${pair%%=*}
        command -v "$program" >/dev/null || [ -x "/usr/sbin/$program" ] || missing+=("${pair#*=}")
    done
    [ -e /usr/include/stdio.h ] || missing+=(libc6-dev)
    # The containers' program must not need shared libraries; Debian has two busyboxes.
    if command -v busybox >/dev/null && ! is_static "$(command -v busybox)"; then
        missing+=(busybox-static)
    fi
    [ "${#missing[@]}" -gt 0 ] || return 0
    if [ "${install:-yes}" = no ] || ! command -v apt-get >/dev/null; then
        echo "${0##*/}: missing, as Debian packages: ${missing[*]}" >&2
        return 1
    fi
    echo "== install ${missing[*]}"
    as_root apt-get -qq update
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
}

rust_is_new_enough() {
    local found
    found=$(cargo --version 2>/dev/null | awk '{print $2}')
    [ -n "$found" ] &&
        [ "$(printf '%s\n' "$rust_minimum" "$found" | sort -V | head -n 1)" = "$rust_minimum" ]
}

# need_rust: finds cargo, or gets it with Debian's rustup.
need_rust() {
    [ ! -e "${CARGO_HOME:-$HOME/.cargo}/env" ] || . "${CARGO_HOME:-$HOME/.cargo}/env"
    rust_is_new_enough && return
    if ! command -v rustup >/dev/null && [ "${install:-yes}" = yes ] &&
        apt-cache show rustup >/dev/null 2>&1; then
        echo "== install rustup"
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y rustup >/dev/null
    fi
    if command -v rustup >/dev/null; then
        echo "== install Rust with rustup"
        rustup toolchain install stable --profile default --no-self-update && rustup default stable
        rust_is_new_enough && return
    fi
    cat >&2 <<EOF
${0##*/}: cargo $rust_minimum or newer is needed; Debian's own is too old. Install Rust with
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y
and run this again.
EOF
    return 1
}
