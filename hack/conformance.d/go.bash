# Sourced by the suites that are written in Go.

# need_go: a go command, and a standard library that has what Go 1.21 added. Debian 12 has Go 1.19;
# it gets a tree of links to its own library, beside which the few functions that the programs use
# are placed (go-1.21/).
need_go() {
    need_packages go=golang-go
    export GOFLAGS=-mod=vendor GOPROXY=off GOTOOLCHAIN=local CGO_ENABLED=0
    local root
    root=$(go env GOROOT)
    [ ! -d "$root/src/slices" ] || return 0
    export GOROOT=$work/go
    mkdir -p "$GOROOT"
    cp -rs "$(readlink -f "$root")/." "$GOROOT/"
    rm -rf "$GOROOT/src"
    cp -rs "$(readlink -f "$root/src")" "$GOROOT/src"
    mkdir "$GOROOT/src/slices"
    cp "$here/conformance.d/go-1.21/slices.go" "$GOROOT/src/slices/"
    cp "$here/conformance.d/go-1.21/oncevalue.go" "$GOROOT/src/sync/"
    cp "$here/conformance.d/go-1.21/cutprefix.go" "$GOROOT/src/strings/"
}
