"""A template: your attention kernel, compared with ours. Copy it and name the copy in a config:

    baselines:
      peers: {enable: true, names: [torch_cudnn, ./mine/my_kernel.py]}

The file's name becomes that of the record: results/<run>/peers_my_kernel.json. The file is executed in the environment
`peers`, which has torch; `.venv/bin/uv pip install --python .envs/peers/bin/python ...` adds what else you need.
Records are identified by the hash of this file: after an edit only this peer is timed again. Files that it reads are
not part of the hash, so keep a CUDA source in here, as a string. The file is first loaded without a GPU, to find out
what it needs: use the GPU only in `prepare` and in launches.
"""

from __future__ import annotations

import math

import torch

from elastickv.peers.base import Inputs, Peer


class MyKernel(Peer):
    """Attention of one new token in two products and a softmax, where your kernel belongs."""

    # What one timed launch covers, for the report.
    times = "two products and a softmax in torch, written out"
    # What has to be installed (names as pip knows them), your library first: its version is part of the record.
    needs = ("torch",)

    def supports(self, case, backend):
        """None, or a sentence on why this case cannot run: its record is `unsupported` then. backend: cuda or cpu."""
        return None if case.dim <= 256 else f"takes up to 256 dims, not {case.dim}"

    def prepare(self, inputs: Inputs):
        """Once for all layers, not timed: compile, plan, bring the caches into your own layout.

        inputs.q[layer]: [batch, heads, dim]; inputs.k[layer], inputs.v[layer]: [batch, kv_heads, slots, dim];
        contiguous, on the device, of the case's dtype. Query head h reads KV head h // (heads / kv_heads).
        """
        shape = inputs.shape  # batch, heads, kv_heads, slots, dim
        scale = 1 / math.sqrt(shape.dim)
        grouped = (shape.batch, shape.kv_heads, shape.heads // shape.kv_heads, shape.dim)

        def launch_of(layer: int):
            """The launch of one layer. On a GPU launches are captured in a CUDA graph: no synchronisation in it."""
            q, k, v = inputs.q[layer].view(grouped), inputs.k[layer], inputs.v[layer]  # views, read in each launch

            def launch():
                """This is timed. Returns batch * heads * dim elements in memory that no other layer uses."""
                weights = torch.softmax(q.float() @ k.float().transpose(2, 3) * scale, dim=-1)
                return (weights @ v.float()).to(q.dtype)

            return launch

        return launch_of


PEER = MyKernel()
