# Sourced by the commands beside it: makes, or reuses, a virtual environment in .venv of this clone.
# PYTHON chooses the interpreter (3.10 to 3.13), P2P_VENV another place for the environment.

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="${P2P_VENV:-$root/.venv}"

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10}; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "p2p_keras needs Python 3.10 to 3.13 with the venv module. Found none of them among:" \
        "${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10}. Set PYTHON to one." >&2
    return 2
}

has_gpu() {
    [[ "$(timeout 20 nvidia-smi -L 2>/dev/null)" == GPU* ]]
}

has_tensorflow() {
    compgen -G "$venv/lib/python3*/site-packages/tensorflow" >/dev/null
}

# ensure_environment [EXTRA]: installs this clone, with an extra if one is named, unless just that is installed already;
# where nvidia-smi lists a GPU, with what TensorFlow needs for it.
ensure_environment() {
    local extra="${1:-}" python state stamp
    if has_gpu; then
        extra="${extra:+$extra,}gpu"
    fi
    # With the clone's place: its commands name it, so a clone that was moved is installed again.
    state="$(echo "$root" | cat - "$root/requirements.txt" "$root/setup.py" | cksum)"
    stamp="$venv/.p2p_keras${extra:+-$extra}"
    if [ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$state" ]; then
        return
    fi
    # pip comes last: without it the environment was made halfway, and making it again completes it.
    if [ ! -x "$venv/bin/python" ] || [ ! -x "$venv/bin/pip" ]; then
        python="$(find_python)" || return 2
        echo "Making a virtual environment in $venv" >&2
        "$python" -m venv "$venv"
    fi
    echo "Installing p2p_keras${extra:+[$extra]}$(has_tensorflow || echo "; TensorFlow is large, so this takes a minute or more")" >&2
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        -c "$root/requirements.txt" -e "$root${extra:+[$extra]}"
    echo "$state" >"$stamp"
}
