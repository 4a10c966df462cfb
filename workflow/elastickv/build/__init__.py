"""Kernels to binaries: one CUDA image per architecture merged into one fatbin, and the CPU library."""

from __future__ import annotations

import argparse


def run(args: argparse.Namespace) -> int:
    """`elastickv build {image,fatbin,cuda,cpu}`."""
    from elastickv.build import cpu, cuda

    return {"image": cuda.run_image, "fatbin": cuda.run_fatbin, "cuda": cuda.run_all, "cpu": cpu.run}[args.what](args)
