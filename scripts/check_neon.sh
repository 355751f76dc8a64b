#!/usr/bin/env bash
# Compiles the CPU kernels and their tests for 64-bit ARM and runs them in an emulator, on a machine that is not ARM.
# Installs Debian's cross compiler, qemu and Highway for arm64. Takes about two minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

place=build/neon
mkdir -p "$place/objects"
scripts/setup.sh g++-aarch64-linux-gnu qemu-user googletest
if [ ! -d "$place/highway" ]; then
  foreign=$(dpkg --print-foreign-architectures)
  [ "$(id -u)" -eq 0 ] || { echo "check_neon: needs root to look for arm64 packages" >&2; exit 1; }
  if [[ $foreign != *arm64* ]]; then dpkg --add-architecture arm64; trap 'dpkg --remove-architecture arm64' EXIT; fi
  apt-get update -qq
  (cd "$place" && apt-get download -qq libhwy-dev:arm64 libhwy1:arm64)
  for package in "$place"/libhwy*.deb; do dpkg -x "$package" "$place/highway"; done
  mkdir "$place/include" && cp -r "$place/highway/usr/include/hwy" "$place/include"
fi

tests=/usr/src/googletest/googletest
highway=$place/highway/usr/lib/aarch64-linux-gnu
disabled=$(sed -n 's/.*IGPT_HIGHWAY_TARGETS \(HWY_DISABLED_TARGETS=[^)]*\)).*/\1/p' CMakeLists.txt)
compile() {  # SOURCE
  aarch64-linux-gnu-g++ -std=c++20 -O1 -I. -Iinclude -Itests "-I$place/include" "-I$tests/include" "-I$tests" \
    -DHWY_SHARED_DEFINE "-D$disabled" -c "$1" -o "$place/objects/${1//\//_}.o"
}
export -f compile
export tests place disabled
printf '%s\0' src/ops/cpu/*.cc tests/ops/cpu/*.cc "$tests"/src/gtest-all.cc "$tests"/src/gtest_main.cc |
  xargs -0 -n 1 -P "$(nproc)" bash -c 'compile "$0"'
aarch64-linux-gnu-g++ "$place"/objects/*.o "-L$highway" -lhwy -lpthread -o "$place/kernels_test"
qemu-aarch64 -L /usr/aarch64-linux-gnu -E "LD_LIBRARY_PATH=$highway" "$place/kernels_test" --gtest_brief=1 | tail -n 4
