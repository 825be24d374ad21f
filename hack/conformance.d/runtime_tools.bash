# Sourced by hack/conformance: the validation programs of opencontainers/runtime-tools.

suite_list() {
    local path
    for path in "$checkout"/validation/*/; do
        path=${path%/}
        [ "${path##*/}" = util ] || echo "${path##*/}"
    done
}

suite_prepare() {
    if [ ! -d "$checkout/validation" ]; then
        echo "$checkout is not a checkout of opencontainers/runtime-tools" >&2
        return 1
    fi
    cd "$checkout"
    local name missing=()
    [ -x runtimetest ] || missing+=(runtimetest)
    for name in $(suite_list); do
        [ -x "validation/$name/$name.t" ] || missing+=("$name")
    done
    if [ "${#missing[@]}" -gt 0 ]; then
        echo "not built: ${missing[*]}" >&2
        echo "build them there first (make runtimetest validation-executables)" >&2
        return 1
    fi
}

suite_run() {
    RUNTIME=$sandbox_command sandbox_run "validation/$1/$1.t"
}
