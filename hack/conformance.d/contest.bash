# Sourced by hack/conformance: youki's contest. One of its groups is a program here: a test that
# panics ends all groups of the same call.

suite_prepare() {
    contest=$checkout/tests/contest/contest
    if [ ! -f "$contest/bundle.tar.gz" ]; then
        echo "$checkout is not a checkout of youki-dev/youki" >&2
        return 1
    fi
    contest_runtimetest=$(find "$checkout/target" -path '*/debug/runtimetest' -type f 2>/dev/null | head -n 1)
    if [ ! -x "$checkout/target/debug/contest" ] || [ -z "$contest_runtimetest" ]; then
        echo "not built: build contest and, statically linked, runtimetest there first" >&2
        return 1
    fi
    cd "$contest"
    limit=300
}

suite_list() { "$checkout/target/debug/contest" list | tr ',' '\n' | tr -d ' []"' | grep . | sort; }

# `3 / 5 : name : not ok` becomes `not ok 3 - name`.
suite_run() {
    RUNTIME_KIND=runc sandbox_run "$checkout/target/debug/contest" run \
        --runtime "$sandbox_command" --runtimetest "$contest_runtimetest" --tests "$1" |
        sed -E 's/^([0-9]+) \/ [0-9]+ : (.*) : (ok|not ok)$/\3 \1 - \2/
                s/^([0-9]+) \/ [0-9]+ : (.*) : skipped$/ok \1 - \2 # SKIP/'
}
