"""Measurements. Every rule takes all cores (with several GPUs each job takes its share), so that no other rule runs
while it measures. elastickv.device.lease chooses the GPU.

Memory, time and sbatch's options are for clusters; a run on one machine has no such limits.
"""

from elastickv.measure import demand

RECORDS = [str(record) for record in PLAN.records]
CEILINGS = f"{RESULTS}/ceilings.json"
CEILINGS_DEMAND = demand.of_ceilings(PLAN.backend)
MEASURING_ENVIRONMENTS = [CUDA_ENVIRONMENT] if "cuda" in PLAN.backends else []


rule ceilings:
    input:
        BINARIES,
        BUILD_MANIFESTS,
        MEASURING_ENVIRONMENTS,
    output:
        CEILINGS,
    log:
        f"{RESULTS}/.logs/ceilings.log",
    threads: RUN.threads(CEILINGS_DEMAND, workflow.cores)
    resources:
        gpu=CEILINGS_DEMAND.gpu,
        mem_mb=CEILINGS_DEMAND.mem_mb,
        runtime=CEILINGS_DEMAND.runtime,
        slurm_extra=CEILINGS_DEMAND.slurm_extra,
    params:
        backend=PLAN.backend,
    message:
        "read and copy ceilings"
    shell:
        "exec python -m elastickv ceilings --backend {params.backend} --out {output:q}" " 2> >(tee -i {log:q} >&2)"


# ELASTICKV_REMEASURE is read by the shell, not by the rule: measuring again once does not make the rule run again later.
rule measure:
    input:
        BINARIES,
        BUILD_MANIFESTS,
        MEASURING_ENVIRONMENTS,
        case=f"{RESULTS}/.plan/cases/{{case}}.json",
    output:
        f"{RESULTS}/results_{{case}}.json",
    log:
        f"{RESULTS}/.logs/measure_{{case}}.log",
    threads: lambda wildcards: RUN.threads(RUN.demands[wildcards.case], workflow.cores)
    resources:
        gpu=lambda wildcards: RUN.demands[wildcards.case].gpu,
        mem_mb=lambda wildcards: RUN.demands[wildcards.case].mem_mb,
        runtime=lambda wildcards: RUN.demands[wildcards.case].runtime,
        slurm_extra=lambda wildcards: RUN.demands[wildcards.case].slurm_extra,
    params:
        store=f"{RESULTS}/.records",
    message:
        "measure {wildcards.case}"
    shell:
        "exec python -m elastickv measure --case {input.case:q} --out {output:q}"
        " --store {params.store:q} ${{ELASTICKV_REMEASURE:+--remeasure}}"
        " 2> >(tee -i {log:q} >&2)"
