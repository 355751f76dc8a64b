# For the scripts of this folder: fail, expect_line and another_libtorch.

fail() { echo "$(basename "$0"): $*" >&2; exit 1; }

# expect_line PATTERN STATUS COMMAND...: the command ends with this status and one line of errors that matches.
expect_line() {
  local pattern=$1 status=$2 output ended=0
  shift 2
  output=$("$@" 2>&1 >/dev/null) || ended=$?
  [ "$ended" -eq "$status" ] || fail "$* ended with $ended instead of $status: $output"
  [[ $output =~ $pattern ]] || fail "$* said \"$output\" instead of \"$pattern\""
  [[ $output != *$'\n'* ]] || fail "$* said more than one line: $output"
}

# another_libtorch FILE [VERSION]: in place of libtorch_cpu.so, a library that knows nothing but its version, if that.
another_libtorch() {
  local major minor patch
  mkdir -p "$(dirname "$1")"
  IFS=. read -r major minor patch <<<"${2:-0.0.0}"
  { [ $# -eq 1 ] || echo "unsigned long aoti_torch_abi_version(void) { return ${major}ul << 56 | ${minor}ul << 48 | ${patch}ul << 40; }"; } |
    cc -shared -fPIC -x c - -o "$1"
}

is_png() { [ "$(head -c 8 "$1" | od -An -tx1 | tr -d ' \n')" = 89504e470d0a1a0a ] || fail "$1 is not a PNG"; }
