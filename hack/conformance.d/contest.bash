# Sourced by hack/conformance: youki's contest. One of its groups is a program here: a test that
# panics ends all groups of the same call.

suite_prepare() {
    contest=$checkout/tests/contest/contest
    if [ ! -f "$contest/bundle.tar.gz" ]; then
        echo "$checkout is not a checkout of youki-dev/youki" >&2
        return 1
    fi
    contest_build
    cd "$contest"
    limit=300
}

# Builds with the toolchain that is in use here, not with the one that the checkout names: that one
# would be downloaded.
contest_build() {
    contest_runtimetest=$(find "$checkout/target" -path '*/debug/runtimetest' -type f 2>/dev/null | head -n 1)
    [ ! -x "$checkout/target/debug/contest" ] || [ -z "$contest_runtimetest" ] || return 0
    echo "== build"
    need_packages /usr/include/seccomp.h=libseccomp-dev
    local triple
    cd "$here/.."
    rust_is_new_enough || { echo "hack/conformance: --contest needs cargo" >&2; return 1; }
    triple=$(rustc -vV | sed -n 's/^host: //p')
    RUSTUP_TOOLCHAIN=$(rustup show active-toolchain 2>/dev/null | cut -d ' ' -f 1)
    export RUSTUP_TOOLCHAIN
    cd "$checkout"
    cargo build --quiet --bin contest
    # It runs inside of the container, where there are no shared libraries.
    RUSTFLAGS=-Ctarget-feature=+crt-static cargo build --quiet --bin runtimetest --target "$triple"
    contest_runtimetest=$checkout/target/$triple/debug/runtimetest
}

suite_list() { "$checkout/target/debug/contest" list | tr ',' '\n' | tr -d ' []"' | grep . | sort; }

# `3 / 5 : name : not ok` becomes `not ok 3 - name`.
suite_run() {
    RUNTIME_KIND=runc sandbox_run "$checkout/target/debug/contest" run \
        --runtime "$sandbox_command" --runtimetest "$contest_runtimetest" --tests "$1" |
        sed -E 's/^([0-9]+) \/ [0-9]+ : (.*) : (ok|not ok)$/\3 \1 - \2/
                s/^([0-9]+) \/ [0-9]+ : (.*) : skipped$/ok \1 - \2 # SKIP/'
}
