#!/usr/bin/env bash
# The wheel of scripts/wheel, built and installed by pip as a user does it, in a fresh environment that shows the torch of
# LIBTORCH through links. To be quick it takes the static libraries of BUILD. Needs PyPI for scikit-build-core.
#   wheel_test.sh BUILD SOURCE LIBTORCH_VERSION LIBTORCH
set -euo pipefail
build=$1 source=$2 version=$3 libtorch=$4
. "$source/tests/package/common.sh"
skip() { echo "skipped: $*"; exit 77; }
site=$(dirname "$libtorch")
[ -d "$site/torch-$version.dist-info" ] || ls -d "$site/torch-$version+"*.dist-info >/dev/null 2>&1 || skip "LibTorch is not from a wheel"
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
model=$source/models/fmnist_gen.ckpt

python3 -m venv venv
own=$(venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("platlib"))')
for entry in "$site"/*; do
  case ${entry##*/} in pip* | setuptools* | pkg_resources | *distutils* | __pycache__ | igpt*) ;; *) ln -s "$entry" "$own" ;; esac
done
export PIP_DISABLE_PIP_VERSION_CHECK=1
venv/bin/pip download --quiet --no-deps --dest downloaded scikit-build-core >/dev/null 2>&1 || skip "PyPI cannot be reached"
settings=("--config-settings=cmake.define.IGPT_LIBRARIES_FROM=$build" --config-settings=cmake.define.IGPT_CUDA=OFF
  "--config-settings=build-dir=$place/build")
venv/bin/pip install --quiet "${settings[@]}" "$source/scripts/wheel" >log 2>&1 || fail "pip install: $(cat log)"
grep -qx "Requires-Dist: torch==$version" "$own"/igpt-*.dist-info/METADATA || fail "the wheel does not depend on torch==$version"
venv/bin/pip check --quiet || fail "pip check"
for file in venv/bin/{prepare_data,run,sample,gif} "$own"/igpt/lib/*.so; do
  [ "$(head -c 4 "$file" | tail -c 3)" = ELF ] || fail "$file is not a binary"
  places=$(readelf -d "$file" | sed -n 's/.*RUNPATH.*\[\(.*\)\]/\1/p')
  [ -n "$places" ] || fail "$file has no RUNPATH"
  for folder in ${places//:/ }; do [[ $folder == \$ORIGIN* ]] || fail "$file looks in $folder"; done
done

# It is used from elsewhere.
best=1000000
for _ in {1..20}; do
  start=${EPOCHREALTIME/./}
  venv/bin/run --help >/dev/null
  took=$((${EPOCHREALTIME/./} - start))
  [ "$took" -ge "$best" ] || best=$took
done
[ "$best" -lt 50000 ] || fail "run --help takes $best microseconds"
python3 - <<'END'
header = "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 28, 28), }".ljust(117) + "\n"
open("test_x.npy", "wb").write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(2 * 784))
END
venv/bin/sample "$model" --test_x test_x.npy --indices 0,1 --seed 1 -q -o figure.png >/dev/null
is_png figure.png
venv/bin/run info "$model" >/dev/null
[ -s venv/share/man/man1/run.1 ] && [ -s venv/share/bash-completion/completions/run ] || fail "no manual or completion"
mkdir use
printf 'cmake_minimum_required(VERSION 3.25)\nproject(use CXX)\nfind_package(igpt REQUIRED)\nmessage(STATUS "with ${LibTorch_ROOT_DIR}")\n' >use/CMakeLists.txt
cmake -S use -B use/build "-DCMAKE_PREFIX_PATH=$own/igpt" >log 2>&1 || fail "find_package(igpt): $(cat log)"
grep -qF "with $(realpath "$own/torch")" log || fail "find_package(igpt) finds another LibTorch: $(cat log)"

# Another torch takes the place of the environment's, then none; the help does without.
rm "$own/torch"
another_libtorch "$own/torch/lib/libtorch_cpu.so" 2.12.0
expect_line "^gif: igpt was built with LibTorch $version, and here is 2\.12\.0 \(.*\); pip install torch==$version, or install igpt again" \
  1 venv/bin/gif "$model"
venv/bin/run train --help >/dev/null
rm -r "$own/torch"
expect_line "^gif: libtorch_cpu.so: cannot open .*; igpt needs LibTorch $version: in a Python environment, pip install torch==$version" \
  1 venv/bin/gif "$model"
venv/bin/pip uninstall --quiet --yes igpt
[ ! -e venv/bin/run ] && [ -z "$(find "$own/igpt" -type f 2>/dev/null)" ] || fail "uninstalled, it is still there"

# An environment without a torch, or with one that is too old to build with: of the build, torch is required.
rm -r "$own"/torch-*.dist-info
venv/bin/pip install --quiet scikit-build-core
for old in '' 2.5.0; do
  [ -z "$old" ] || { mkdir "$own/torch-$old.dist-info" && printf 'Metadata-Version: 2.1\nName: torch\nVersion: %s\n' "$old" >"$own/torch-$old.dist-info/METADATA"; }
  required=$(cd "$source/scripts/wheel" && PYTHONDONTWRITEBYTECODE=1 "$place/venv/bin/python" -c 'import backend; print(backend.get_requires_for_build_wheel())')
  [[ $required == *"'torch=="* ]] || fail "with torch ${old:-missing} the build requires $required"
  ! venv/bin/pip wheel --quiet --no-build-isolation --no-deps "$source/scripts/wheel" >log 2>&1 || fail "builds with torch ${old:-missing}"
  grep -q 'igpt: this environment has no torch that igpt can be built with; pip install torch==' log || fail "without torch: $(cat log)"
done
