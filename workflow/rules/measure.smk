"""Timing. Every rule here takes all cores, so that nothing else of the DAG runs while it measures."""

RECORDS = [str(record) for record in PLAN.records]
CEILINGS = f"{RESULTS}/ceilings.json"
MEASURING_ENVIRONMENTS = [CUDA_ENVIRONMENT] if "cuda" in PLAN.backends else []


rule ceilings:
    input:
        BINARIES,
        MEASURING_ENVIRONMENTS,
    output:
        CEILINGS,
    log:
        f"{RESULTS}/.logs/ceilings.log",
    threads: workflow.cores
    resources:
        gpu=1,
    params:
        backend=PLAN.backend,
    message:
        "read and copy ceilings"
    shell:
        "ELASTICKV_LOG={log} exec python -m elastickv ceilings --backend {params.backend} --out {output}"


# The environment variable is not part of the rule: measuring afresh once leaves no trace in what reruns later.
rule measure:
    input:
        BINARIES,
        MEASURING_ENVIRONMENTS,
        case=f"{RESULTS}/.plan/cases/{{case}}.json",
    output:
        f"{RESULTS}/results_{{case}}.json",
    log:
        f"{RESULTS}/.logs/measure_{{case}}.log",
    threads: workflow.cores
    resources:
        gpu=1,
    params:
        store=f"{RESULTS}/.records",
    message:
        "measure {wildcards.case}"
    shell:
        "ELASTICKV_LOG={log} exec python -m elastickv measure --case {input.case} --out {output} --store {params.store}"
        " ${{ELASTICKV_FRESH:+--fresh}}"
