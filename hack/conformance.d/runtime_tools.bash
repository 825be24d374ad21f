# Sourced by hack/conformance: the validation programs of opencontainers/runtime-tools.
. "$here/conformance.d/go.bash"

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
    for name in $(suite_list); do
        [ -x "validation/$name/$name.t" ] || missing+=("$name")
    done
    [ ! -x runtimetest ] || [ "${#missing[@]}" -gt 0 ] || return 0
    echo "== build"
    need_go
    go build -tags netgo,osusergo -o runtimetest ./cmd/runtimetest
    for name in "${missing[@]}"; do
        go build -o "validation/$name/$name.t" "validation/$name/$name.go"
    done
}

suite_run() {
    RUNTIME=$sandbox_command sandbox_run "validation/$1/$1.t"
}
