# shellcheck shell=bash
# What the scripts share: it installs what a fresh machine lacks, and builds. Sourced, never run; every function is
# quick and silent when nothing is missing. It installs from Debian's packages and rustup alone, and never Rust itself.

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
target=${CARGO_TARGET_DIR:-$repo/target}
# Where the binaries are. A caller may point it at others: then nothing is built.
bin_dir=${ANNULUS_BIN_DIR:-$target/release}

say() { printf '==> %s\n' "$*" >&2; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# have TOOL: whether a command, or one of the two things below that are no commands, is there.
have() {
  case $1 in
    libclang) [ -n "${LIBCLANG_PATH:-}" ] || compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null ||
      compgen -G '/usr/lib/*/libclang*.so*' >/dev/null || compgen -G '/usr/lib*/libclang*.so*' >/dev/null ;;
    python3-venv) python3 -c 'import venv, ensurepip' >/dev/null 2>&1 ;;
    *) command -v "$1" >/dev/null 2>&1 ;;
  esac
}

# need TOOL:PACKAGE...: installs the Debian package of each tool that is not there.
need() {
  local pair tools=() packages=()
  for pair in "$@"; do
    have "${pair%%:*}" || { tools+=("${pair%%:*}") && packages+=("${pair#*:}"); }
  done
  [ ${#tools[@]} -eq 0 ] && return
  have apt-get ||
    die "missing: ${tools[*]}; there is no apt-get here: install them (Debian calls them ${packages[*]}) and try again"
  say "installing ${packages[*]}"
  as_root apt-get -qq update
  as_root apt-get -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 install "${packages[@]}" \
    >/dev/null </dev/null
  for pair in "$@"; do
    have "${pair%%:*}" || die "${pair%%:*} is still missing after installing ${pair#*:}"
  done
}

as_root() {
  if [ "$(id -u)" = 0 ]; then
    env DEBIAN_FRONTEND=noninteractive "$@"
  elif have sudo; then
    sudo env DEBIAN_FRONTEND=noninteractive "$@"
  else
    die "needs root for: $* (run this as root, or install sudo)"
  fi
}

# need_build_tools: all that a build needs beside Rust. RocksDB is C++ and is bound through libclang; Raft's messages
# are compiled by protoc.
need_build_tools() {
  need g++:g++ cc:gcc make:make pkg-config:pkg-config clang:clang libclang:libclang-dev protoc:protobuf-compiler \
    curl:curl python3:python3
  need_cargo
}

# What the oldest of the dependencies and our own code need.
rust_minor_min=95

need_cargo() {
  have cargo || PATH="$HOME/.cargo/bin:$PATH"
  have cargo || die "cargo is missing: install Rust (https://www.rust-lang.org/tools/install) and run this again"
  local minor
  minor=$(cargo --version | sed -nE 's/^cargo 1\.([0-9]+)\..*/\1/p')
  [ -z "$minor" ] || [ "$minor" -ge "$rust_minor_min" ] ||
    die "$(cargo --version) is too old: Annulus needs Rust 1.$rust_minor_min or newer (rustup update)"
}

# need_lint_tools: rustfmt and clippy, which a minimal Rust comes without.
need_lint_tools() {
  local tool
  for tool in fmt clippy; do
    (cd "$repo" && cargo "$tool" --version) >/dev/null 2>&1 && continue
    have rustup || die "cargo $tool is missing, and there is no rustup to install it with"
    rustup component add "${tool/#fmt/rustfmt}"
  done
}

# build: the binaries, in the one profile there is.
build() {
  [ -z "${ANNULUS_BIN_DIR:-}" ] || return 0
  need_build_tools
  [ -e "$bin_dir/annulus" ] || say "building; the first time, with RocksDB, takes up to half an hour on two cores"
  (cd "$repo" && cargo build --release --ignore-rust-version --bins)
}
