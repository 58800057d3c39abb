#!/usr/bin/env bash
# Installs TorchRec, for --set table_placement=torchrec, beside the torch that is there.
#
#   scripts/install_torchrec.sh            into .venv
#   scripts/install_torchrec.sh PYTHON     into the environment of that python
#
# A script and not an extra of the package: torchrec asks for `fbgemm-gpu`, the CUDA build, by name, and pip would
# install it (and might exchange torch) where the CPU build `fbgemm-gpu-cpu`, the same modules under another name, is
# the right one. FBGEMM is compiled against one minor release of torch: 1.8 goes with torch 2.13.

set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
python=${1:-$here/.venv/bin/python}

torch_version() { "$python" -c 'import torch; print(torch.__version__)'; }

before=$(torch_version) || { echo "$python has no torch: run  make setup  first, or name another python" >&2; exit 3; }
if [[ $before != 2.13.* ]]; then
  echo "$python has torch $before, and FBGEMM 1.8 is compiled against 2.13: install torch 2.13 first" >&2
  exit 3
fi

install() { "$python" -m pip install --quiet --disable-pip-version-check --no-deps -c "$here/constraints.txt" "$@"; }

install torchrec==1.8.0 fbgemm-gpu-cpu==1.8.0
# what torchrec imports, and what those import, except torch
install tensordict==0.15.3 pyvers==0.2.3 cloudpickle pyre-extensions==0.0.32 typing-inspect==0.9.0 mypy-extensions \
  typing-extensions torchmetrics==1.0.3 lightning-utilities==0.15.3 packaging tqdm numpy

[[ $(torch_version) == "$before" ]]
"$python" -W ignore -c '
import fbgemm_gpu, torch, torchrec

print(f"torchrec {torchrec.__version__}, fbgemm {fbgemm_gpu.__version__}, torch {torch.__version__}")
torch.ops.fbgemm.asynchronous_complete_cumsum(torch.ones(2, dtype=torch.int64))  # its kernels are there
'
