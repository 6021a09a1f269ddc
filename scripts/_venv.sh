# Sets up the virtual environment that scripts/run and scripts/test work in. Sourced by them, never run by itself.
#
#   PYTHON     the interpreter to use      (default: the one the environment has, else the first usable one on PATH)
#   VENV       the environment's folder    (default: .venv; a relative path starts at the repository)
#   LOCK       what gets installed         (default: requirements.lock)
#   INSTALLER  uv or pip                   (default: uv when it is on PATH)
#
# It leaves ROOT, VENV and VENV_PYTHON set and the working directory at ROOT. A stamp inside the environment, written
# last, tells what it was built from: a set-up that was interrupted, or whose lock changed, starts again from nothing; a
# changed pyproject.toml only installs the project again. Works with bash 3.2 and the tools macOS and Linux share.

ROOT=$(CDPATH='' cd -- "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$ROOT" || exit
VENV=${VENV:-.venv}
VENV=${VENV%/}
case $VENV in /*) ;; *) VENV=$ROOT/$VENV ;; esac
LOCK=${LOCK:-requirements.lock}
VENV_PYTHON=$VENV/bin/python
trap 'exit 130' INT
unset PYTHONDONTWRITEBYTECODE # a trial starts several processes, each of which would compile jax's sources for seconds

# A closed standard input would give its number to the first file opened.
{ : <&0; } 2>/dev/null || exec </dev/null

say() { printf '%s\n' "$*" >&2; }
die() {
  say "error: $*"
  exit 1
}

# Prints what makes two interpreters of one kind, "cpython 3.11 linux x86_64"; fails if this is no working Python.
describe() {
  "$@" -c 'import os, sys
name = getattr(getattr(sys, "implementation", None), "name", "python")
print("%s %d.%d%s %s %s" % (name, sys.version_info[0], sys.version_info[1], getattr(sys, "abiflags", ""), sys.platform, os.uname()[4]))' 2>/dev/null
}

usable() { # DESCRIPTION
  case $1 in "cpython 3.11 "* | "cpython 3.12 "* | "cpython 3.13 "*) return 0 ;; *) return 1 ;; esac
}

# Sets BASE_PYTHON, the interpreter to build the environment from.
choose_python() {
  local candidate description seen=
  if [ -n "${PYTHON:-}" ]; then
    BASE_PYTHON=$(command -v "$PYTHON") || die "PYTHON=$PYTHON: no such command"
    description=$(describe "$BASE_PYTHON") || die "PYTHON=$PYTHON does not start; try: $PYTHON --version"
    usable "$description" || die "PYTHON=$PYTHON is $description; the harness needs CPython 3.11, 3.12 or 3.13"
    return
  fi
  if [ -x "$VENV_PYTHON" ] && usable "$(describe "$VENV_PYTHON" -IS)"; then
    BASE_PYTHON=$("$VENV_PYTHON" -IS -c 'import sys; print(sys._base_executable)')
    return
  fi
  for candidate in python3 python3.13 python3.12 python3.11 python; do
    BASE_PYTHON=$(command -v "$candidate") || continue
    description=$(describe "$BASE_PYTHON") || continue
    usable "$description" && return
    seen="$seen $candidate is $description."
  done
  die "no usable Python: the harness needs CPython 3.11, 3.12 or 3.13.$seen Install one, or name it: PYTHON=/path/to/python3.12 $0"
}

# What the environment's packages depend on, a line each; with them, its console scripts hold ROOT.
packages_state() { # DESCRIPTION
  printf '%s\n' "$ROOT" "$1" "$(cksum <"$LOCK")"
}
project_state() { cksum <pyproject.toml; }

# True if what the stamp says still holds: of the packages, or of the packages and the project.
holds() { # packages|all
  local description wanted
  [ -f "$VENV/.setup" ] && [ -x "$VENV_PYTHON" ] || return 1
  description=$(describe "$VENV_PYTHON" -IS) || return 1
  if [ -n "${PYTHON:-}" ]; then
    wanted=$(describe "$PYTHON" -IS) && [ "$wanted" = "$description" ] || return 1
  fi
  if [ "$1" = all ]; then
    [ "$(cat "$VENV/.setup")" = "$(packages_state "$description" && project_state)" ]
  else
    [ "$(sed '$d' "$VENV/.setup")" = "$(packages_state "$description")" ]
  fi
}

# True if the packages are as they should be and the installer at hand can add the project (uv's own leave pip out).
packages_stand() {
  holds packages && { [ "$INSTALLER" = uv ] || "$VENV_PYTHON" -c 'import pip' 2>/dev/null; }
}

# Holds file descriptor 9 locked until it is closed; the kernel lets go of it whatever this shell dies of.
lock_setup() {
  mkdir -p "$(dirname "$VENV")" || die "cannot make the folder of $VENV"
  exec 9>"$VENV.lock" || die "cannot write $VENV.lock"
  "$BASE_PYTHON" -IS -c 'import fcntl, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    sys.stderr.write("another set-up is working on %s; waiting for it\n" % sys.argv[1])
    fcntl.flock(9, fcntl.LOCK_EX)
except OSError as error:
    sys.stderr.write("no file locks here (%s): see that only one set-up runs at a time\n" % error)' "$VENV" || exit 130
}

install() { # ARGUMENT ... for `pip install`
  if [ "$INSTALLER" = uv ]; then
    uv pip install --quiet --python "$VENV_PYTHON" --no-build-isolation "$@"
  else
    PIP_USER=0 "$VENV_PYTHON" -m pip install --quiet --quiet --disable-pip-version-check --no-input --no-compile \
      --no-build-isolation "$@"
  fi
}

# Hash-checked, wheels only; hydra's antlr4-python3-runtime alone is built, so its build tools come first.
build_environment() {
  local failed="setting up $VENV with $INSTALLER failed, see above; the next start tries again from nothing"
  if [ -e "$VENV" ] || [ -L "$VENV" ]; then
    if [ ! -f "$VENV/pyvenv.cfg" ] && [ -n "$(ls -A "$VENV" 2>/dev/null || echo file)" ]; then
      die "$VENV is there and is no virtual environment; move it away, or choose another folder with VENV"
    fi
    mv "$VENV" "$VENV.removing" || die "cannot replace $VENV"
  fi
  rm -rf "$VENV.removing" || die "cannot remove $VENV.removing"
  say "setting up $VENV: $(describe "$BASE_PYTHON"), $LOCK, with $INSTALLER (once; a few minutes)"
  if [ "$INSTALLER" = uv ]; then
    uv venv --quiet --no-project --python "$BASE_PYTHON" "$VENV" || die "$failed"
  else
    "$BASE_PYTHON" -c 'import ensurepip, venv' 2>/dev/null ||
      die "$BASE_PYTHON cannot make virtual environments; install its venv package (Debian: apt install python3-venv) or uv"
    "$BASE_PYTHON" -m venv "$VENV" || die "$failed"
  fi
  awk '/^[^ ]/ { wanted = /^(setuptools|wheel|packaging)==/ } wanted' "$LOCK" >"$VENV/build-tools.lock"
  install --require-hashes --no-deps --only-binary :all: -r "$VENV/build-tools.lock" || die "$failed"
  install_lock || die "$failed"
}

# The lock names every package, so nothing is resolved, and pip, which works with one core, installs it in two halves.
install_lock() {
  local half other status=0
  set -- --require-hashes --no-deps --only-binary :all: --no-binary antlr4-python3-runtime
  if [ "$INSTALLER" = uv ]; then
    install "$@" -r "$LOCK"
    return
  fi
  for half in 0 1; do
    awk -v half=$half '/^[^ #]/ { number++ } number % 2 == half' "$LOCK" >"$VENV/half-$half.lock"
  done
  install "$@" -r "$VENV/half-0.lock" &
  other=$!
  trap 'kill "$other" 2>/dev/null; exit 130' INT TERM
  install "$@" -r "$VENV/half-1.lock" || status=1
  wait "$other" || status=1
  trap 'exit 130' INT
  trap - TERM
  return $status
}

set_up() {
  local description
  holds all && return
  [ -f "$LOCK" ] || die "no $LOCK in $ROOT"
  if [ -z "${INSTALLER:-}" ]; then
    INSTALLER=pip
    if uv --version >/dev/null 2>&1; then INSTALLER=uv; fi
  fi
  case $INSTALLER in
    uv) uv --version >/dev/null 2>&1 || die "INSTALLER=uv: there is no uv on PATH" ;;
    pip) ;;
    *) die "INSTALLER=$INSTALLER: it is uv or pip" ;;
  esac
  choose_python
  lock_setup
  if ! holds all; then
    packages_stand || build_environment
    install --no-deps --editable . || die "installing the project into $VENV failed, see above"
    description=$(describe "$VENV_PYTHON" -IS) || die "$VENV_PYTHON does not start"
    { packages_state "$description" && project_state; } >"$VENV/.setup.new"
    mv "$VENV/.setup.new" "$VENV/.setup"
  fi
  exec 9>&-
}

set_up
