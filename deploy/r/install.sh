#!/bin/sh
# Install R with IRkernel from Debian's packages, and a kernelspec `ir`.
# usage: install.sh PREFIX   the environment to register the kernel in
set -eu
prefix=$(cd "$1" && pwd)
specs=$prefix/share/jupyter/kernels

has_kernel() { command -v Rscript >/dev/null && Rscript -e 'loadNamespace("IRkernel")' >/dev/null 2>&1; }

if ! has_kernel; then
    command -v apt-get >/dev/null || {
        echo "Install R and its package IRkernel; this is no Debian or Ubuntu, so it is not done" \
            "for you." >&2
        exit 1
    }
    as_root=
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || {
            echo "As root: apt-get install --no-install-recommends r-base-core r-cran-irkernel" >&2
            exit 1
        }
        as_root=sudo
    fi
    $as_root apt-get update -qq
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        r-base-core r-cran-irkernel >/dev/null
fi

# It asks the program `jupyter` to do it, which must be the one of the environment.
PATH=$prefix/bin:$PATH Rscript -e "IRkernel::installspec(prefix = '$prefix')" >/dev/null
[ -f "$specs/ir/kernel.json" ]
echo "Installed the R kernel in $specs/ir"
