#!/usr/bin/env bash
# Installs what building and running need, unless it is there already: Debian or Ubuntu packages through apt-get, and
# LibTorch. A second run takes a second.
#
# LibTorch is taken from CMAKE_PREFIX_PATH, Torch_DIR or the active Python environment (2.11 or newer), else PyPI's
# torch==2.11.0 goes into .venv in the checkout.
#   scripts/setup.sh [--no-libtorch] [further Debian packages]
# With --no-libtorch only the packages: pip install ./scripts/wheel takes the LibTorch of its environment.
set -euo pipefail
cd "$(dirname "$0")/.."

torch_version=2.11.0
packages=(
  build-essential cmake ninja-build git ca-certificates python3 python3-venv clang-format
  zlib1g-dev libcurl4-openssl-dev libssl-dev libyaml-cpp-dev nlohmann-json3-dev libcxxopts-dev libgif-dev libstb-dev
  libhwy-dev libpng-dev libturbojpeg0-dev libarchive-dev libcairo2-dev libgloo-dev libgtest-dev libgmock-dev libbenchmark-dev
  dataset-fashion-mnist
)

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

install_packages() {
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    # Without apt: check for the compilers and leave the libraries to CMake, which names those that are missing.
    local missing=()
    for tool in c++ cmake ninja python3; do command -v "$tool" >/dev/null || missing+=("$tool"); done
    [ ${#missing[@]} -eq 0 ] ||
      die "this is not Debian or Ubuntu; install ${missing[*]} and the development files of zlib, libcurl, OpenSSL, yaml-cpp, nlohmann-json, cxxopts, giflib, stb, libpng, TurboJPEG, libarchive, cairo, Highway, Gloo, GoogleTest and Google Benchmark with your package manager, then run this again"
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

install_libtorch() {
  local found
  if found=$(cmake -P scripts/cmake/FindLibTorch.cmake 2>/dev/null); then
    say "${found##*-- }"
    return
  fi
  say "installing PyPI's torch==$torch_version into .venv (about 4 GB with its CUDA libraries)"
  python3 -m venv .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check "torch==$torch_version" numpy
}

with_libtorch=true
if [ "${1:-}" = --no-libtorch ]; then with_libtorch=false; shift; fi
packages+=("$@")
install_packages
! "$with_libtorch" || install_libtorch
