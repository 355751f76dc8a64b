#!/usr/bin/env bash
# The tree that `cmake --install` makes is complete, can be moved, says when it finds another LibTorch, and other projects
# build against it: the program of src/README.md. cpack packs it.
#   install_test.sh BUILD SOURCE LIBTORCH_VERSION
set -euo pipefail
build=$1 source=$2 version=$3
. "$source/tests/package/common.sh"
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
programs=(prepare_data run sample gif)
model=$source/models/fmnist_gen.ckpt

cmake --install "$build" --prefix "$place/first" >/dev/null
mv first moved
tree=$place/moved
lib=$(dirname "$(find "$tree" -name libigpt.so)")
for file in "${programs[@]/#/bin/}" "${programs[@]/#/share/bash-completion/completions/}" "${programs[@]/%/.1}"; do
  [[ $file == *.1 ]] && file=share/man/man1/$file
  [ -s "$tree/$file" ] || fail "$file is not installed"
done
for file in "$tree"/bin/* "$lib"/*.so; do
  ! readelf -d "$file" | grep -E 'R(UN)?PATH' | grep -F "$build" || fail "$file looks for libraries in the build tree"
done

# It runs where it was moved to.
"$tree/bin/gif" "$model" --rows 1 --cols 2 --seed 1 -q >/dev/null
[ "$(head -c 6 out.gif)" = GIF89a ] || fail "out.gif is not a GIF"
expect_line '^prepare_data: .*nowhere' 1 "$tree/bin/prepare_data" --source nowhere

# Completion and manual know every option that help shows, and are what they should be.
for program in "${programs[@]}"; do
  commands=('')
  [ "$program" != run ] || mapfile -t commands < <("$tree/bin/run" --help | sed -n 's/^  \([a-z]\+\)  .*/\1/p')
  for command in "${commands[@]}"; do
    # shellcheck disable=SC2086
    for option in $("$tree/bin/$program" $command --help | sed -n 's/^  \(-., \|    \)--\([a-z_0-9]\+\).*/\2/p'); do
      for file in "bash-completion/completions/$program" "zsh/site-functions/_$program" "fish/vendor_completions.d/$program.fish"; do
        grep -qwe "$option" "$tree/share/$file" || fail "$file does not know --$option"
      done
      grep -qFe "\\-\\-$option" "$tree/share/man/man1/$program.1" || fail "$program.1 does not know --$option"
    done
  done
  bash -n "$tree/share/bash-completion/completions/$program"
  ! command -v zsh >/dev/null || zsh -n "$tree/share/zsh/site-functions/_$program"
  ! command -v fish >/dev/null || fish --no-config --no-execute "$tree/share/fish/vendor_completions.d/$program.fish"
  ! command -v groff >/dev/null || [ -z "$(groff -man -ww -Tutf8 "$tree/share/man/man1/$program.1" 2>&1 >/dev/null)" ] ||
    fail "$program.1 has errors"
done

# The program of src/README.md, and a file that includes every installed header; another LibTorch is passed over.
mkdir -p use other/torch/include/torch/csrc/api/include/torch other/torch/include/torch/headeronly
block() { awk -v kind="$1" '$0 == "```" kind {inside = 1; next} /^```/ {inside = 0} inside' "$source/src/README.md"; }
block cmake >use/CMakeLists.txt
block cpp >use/draw.cc
[ -s use/draw.cc ] && [ -s use/CMakeLists.txt ] || fail "src/README.md has no program"
[ "$(grep -c . use/draw.cc)" -le 30 ] || fail "the program of src/README.md has grown"
(cd "$tree/include" && find igpt -name '*.h' | sort | sed 's/.*/#include <&>/') >use/headers.cc
echo 'target_sources(draw PRIVATE headers.cc)' >>use/CMakeLists.txt
touch other/torch/include/torch/csrc/api/include/torch/torch.h
printf '#define TORCH_VERSION_MAJOR 9\n#define TORCH_VERSION_MINOR 8\n#define TORCH_VERSION_PATCH 7\n' >other/torch/include/torch/headeronly/version.h
cmake -S use -B use/build -DCMAKE_PREFIX_PATH="$place/other;$tree" -DCMAKE_CXX_FLAGS="-O0 -Wall -Werror" >use/log 2>&1 ||
  fail "find_package(igpt): $(cat use/log)"
grep -q "LibTorch 9.8.7 in .* is not $version; looking on" use/log || fail "find_package(igpt) takes any LibTorch: $(cat use/log)"
cmake --build use/build --parallel 2 >use/log 2>&1 || fail "the program of src/README.md: $(cat use/log)"
use/build/draw "$model" drawn.png
is_png drawn.png
expect_line '^draw: nothing\.ckpt: ' 1 use/build/draw nothing.ckpt drawn.png

# cpack packs the same files.
cpack --config "$build/CPackConfig.cmake" -B "$place/packed" >cpack.log 2>&1 || fail "cpack: $(cat cpack.log)"
list=$(tar -tzf packed/*.tar.gz)
for program in "${programs[@]}"; do [[ $list == */bin/$program* ]] || fail "the archive lacks bin/$program"; done

# Another LibTorch beside it, one that is too old to know its version, and none that can be loaded.
another_libtorch "$lib/torch/lib/libtorch_cpu.so" 2.10.1
expect_line "^gif: igpt was built with LibTorch $version, and here is 2\.10\.1 \([^ ]*/torch/lib/libtorch_cpu.so\); pip install torch==$version, or install igpt again" \
  1 "$tree/bin/gif" "$model" -q
another_libtorch "$lib/torch/lib/libtorch_cpu.so"
expect_line "^run info: igpt was built with LibTorch $version, and here is an older one; pip install" 1 "$tree/bin/run" info "$model"
: >"$lib/torch/lib/libtorch_cpu.so"
expect_line "libtorch_cpu.so: file too short; igpt needs LibTorch $version: in a Python environment, pip install torch==$version" \
  1 "$tree/bin/sample" "$model"
"$tree/bin/sample" --help >/dev/null
