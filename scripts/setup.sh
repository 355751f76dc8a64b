#!/usr/bin/env bash
# Brings what building and running needs, and nothing that is there already: Debian or Ubuntu packages through apt-get,
# and LibTorch. A second run takes a second.
#
# LibTorch is taken from CMAKE_PREFIX_PATH, Torch_DIR or the active Python environment (2.11 or newer), else PyPI's
# torch==2.11.0 goes into .venv in the checkout.
#   scripts/setup.sh [further Debian packages]
set -euo pipefail
cd "$(dirname "$0")/.."

torch_version=2.11.0
packages=(
  build-essential cmake ninja-build ccache git ca-certificates python3 python3-venv clang-format
  zlib1g-dev libcurl4-openssl-dev libssl-dev libyaml-cpp-dev libcxxopts-dev libgif-dev libstb-dev libhwy-dev
  libgloo-dev libgtest-dev libgmock-dev libbenchmark-dev dataset-fashion-mnist
)

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

install_packages() {
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    # No apt here: check the compilers and leave the libraries to CMake, which names what it misses.
    local missing=()
    for tool in c++ cmake ninja python3; do command -v "$tool" >/dev/null || missing+=("$tool"); done
    [ ${#missing[@]} -eq 0 ] ||
      die "this is not Debian or Ubuntu; install ${missing[*]} and the development files of zlib, libcurl, OpenSSL, yaml-cpp, cxxopts, giflib, stb, Highway, Gloo, GoogleTest and Google Benchmark with your package manager, then run this again"
    return
  fi
  local missing=() package
  for package in "${packages[@]}"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "as root, run: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  say "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# Prints the folder of a LibTorch that is new enough, if `$1/version.py` or the CMake package in it says so.
new_enough() {
  [ -f "$1/include/torch/headeronly/version.h" ] || return 1
  local major minor
  major=$(sed -n 's/#define TORCH_VERSION_MAJOR //p' "$1/include/torch/headeronly/version.h")
  minor=$(sed -n 's/#define TORCH_VERSION_MINOR //p' "$1/include/torch/headeronly/version.h")
  [ "$major" -gt 2 ] || { [ "$major" -eq 2 ] && [ "$minor" -ge 11 ]; }
}

python_torch() {
  "$1" -c "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')" 2>/dev/null
}

find_libtorch() {
  local folder python
  IFS=':;' read -ra prefixes <<<"${CMAKE_PREFIX_PATH:-}"
  for folder in ${Torch_DIR:+"$Torch_DIR/../../.."} ${prefixes[@]+"${prefixes[@]}"}; do
    for folder in "$folder" "$folder/../.." "$folder/torch"; do
      if new_enough "$folder"; then printf '%s\n' "$folder"; return; fi
    done
  done
  for python in "${VIRTUAL_ENV:+$VIRTUAL_ENV/bin/python}" "${CONDA_PREFIX:+$CONDA_PREFIX/bin/python}" python3 .venv/bin/python; do
    [ -n "$python" ] || continue
    folder=$(python_torch "$python") || continue
    if [ -n "$folder" ] && new_enough "$folder"; then printf '%s\n' "$folder"; return; fi
  done
  return 1
}

install_libtorch() {
  local folder
  if folder=$(find_libtorch); then
    say "LibTorch in $folder"
    return
  fi
  say "installing PyPI's torch==$torch_version into .venv (about 4 GB with its CUDA libraries)"
  python3 -m venv .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check "torch==$torch_version" numpy
}

packages+=("$@")
install_packages
install_libtorch
