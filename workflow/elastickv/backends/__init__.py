"""The machines that run kernels: one small interface (base.py), one class each for CUDA and CPU."""
