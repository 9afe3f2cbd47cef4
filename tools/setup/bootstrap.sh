#!/bin/sh
# Brings a Debian 12 machine (as root) to where Wrenn builds and runs. Running it again does only what is
# missing, so every make target calls it. `bootstrap.sh test` adds what the tests need, `bootstrap.sh e2e` what only those
# in microVMs do, and `bootstrap.sh bench` what is measured against. One at a time per clone.
set -eu
cd "$(dirname "$0")/../.."
mkdir -p .build/bin .build/stamps
if [ "${1:-}" != --locked ]; then
  exec flock --close .build/bootstrap.lock "tools/setup/bootstrap.sh" --locked "$@"
fi
shift
purpose=${1:-run}
. tools/setup/steps.sh

install_packages qemu-system-x86 qemu-utils nftables mmdebstrap busybox-static cpio kmod e2fsprogs iproute2 procps \
  zstd xz-utils lz4 git curl ca-certificates gcc make libc6-dev
command -v npm >/dev/null || install_packages nodejs npm
need_cargo
once npm "npm packages" npm_inputs install_npm
once proto "code from proto/" proto_inputs generate
bundle_programs
if [ "$purpose" = test ] || [ "$purpose" = e2e ]; then
  quiet_postgres
  install_packages postgresql postgresql-client python3-venv chromium apache2-utils nghttp2-client wrk \
    maven default-jre-headless
  once python "Python gRPC client" python_inputs install_python
  once prometheus "Prometheus" prometheus_inputs install_prometheus
fi
if [ "$purpose" = e2e ]; then
  once zipkin "Zipkin" zipkin_inputs install_zipkin
  once grpcurl "grpcurl" grpcurl_inputs install_grpcurl
  once go_client "Go gRPC client" go_client_inputs install_go_client
  once next_app "Next.js application" next_app_inputs install_next_app
fi
if [ "$purpose" = bench ]; then
  install_packages_only nginx-light haproxy wrk
fi
