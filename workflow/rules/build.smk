"""Kernels: one CUDA image per architecture, merged into one fatbin; one CPU library.

The inputs are fingerprints (comment-free source, flags, compiler version), so a comment rebuilds nothing.
"""

from elastickv.build import images

FATBIN = "build/cuda/elastickv.fatbin"
CPU_LIBRARY = "build/cpu/libelastickv.so"
BINARIES = [{"cuda": FATBIN, "cpu": CPU_LIBRARY}[backend] for backend in PLAN.backends]
BUILD_MANIFESTS = [f"build/{backend}/manifest.json" for backend in PLAN.backends]


rule build_image:
    input:
        "build/.plan/image_{target}.json",
        CUDA_ENVIRONMENT,
    output:
        "build/cuda/{target}.{kind}",
    log:
        "build/.logs/image_{target}.{kind}.log",
    wildcard_constraints:
        target=r"(sm|compute)_\d+",
        kind="cubin|ptx",
    params:
        architecture=lambda wildcards: images.target(f"{wildcards.target}.{wildcards.kind}")[0],
        ptx=lambda wildcards: "--ptx" if wildcards.kind == "ptx" else "",
        compiler=PLAN.compiler,
    message:
        "compile {output}"
    shell:
        "exec python -m elastickv build image --architecture {params.architecture} {params.ptx}"
        " --compiler {params.compiler} --out {output:q}"
        " 2> >(tee -i {log:q} >&2)"


rule build_fatbin:
    input:
        "build/.plan/fatbin.json",
        CUDA_ENVIRONMENT,
        images=[f"build/cuda/{image}" for image in PLAN.images],
    output:
        fatbin=FATBIN,
        manifest="build/cuda/manifest.json",
    log:
        "build/.logs/fatbin.log",
    message:
        "merge {output.fatbin}"
    shell:
        "exec python -m elastickv build fatbin --images {input.images:q}"
        " --out {output.fatbin:q} --manifest {output.manifest:q}"
        " 2> >(tee -i {log:q} >&2)"


rule build_cpu:
    input:
        "build/.plan/cpu.json",
    output:
        CPU_LIBRARY,
        "build/cpu/manifest.json",
    log:
        "build/.logs/cpu.log",
    message:
        "compile the CPU library"
    shell:
        "exec python -m elastickv build cpu --out build/cpu" " 2> >(tee -i {log:q} >&2)"
