"""Language-model baselines, each enabled by the config."""

from elastickv.measure import demand

BASELINES = [f"{RESULTS}/{name}_baseline.json" for name in PLAN.baselines]


rule transformers_baseline:
    input:
        LLM_ENVIRONMENT,
        settings=f"{RESULTS}/.plan/transformers.json",
    output:
        f"{RESULTS}/transformers_baseline.json",
    log:
        f"{RESULTS}/.logs/transformers_baseline.log",
    threads: workflow.cores
    resources:
        gpu=demand.gpus(PLAN.backend),
        slurm_extra=demand.sbatch_options(PLAN.backend),
    params:
        engine="transformers",
        store=f"{RESULTS}/.records",
    message:
        "Transformers baseline"
    shell:
        "exec python -m elastickv baseline {params.engine:q} --settings {input.settings:q}"
        " --out {output:q} --store {params.store:q} ${{ELASTICKV_REMEASURE:+--remeasure}}"
        " 2> >(tee -i {log:q} >&2)"


use rule transformers_baseline as gguf_baseline with:
    input:
        GGUF_ENVIRONMENT,
        settings=f"{RESULTS}/.plan/gguf.json",
    output:
        f"{RESULTS}/gguf_baseline.json",
    log:
        f"{RESULTS}/.logs/gguf_baseline.log",
    params:
        engine="gguf",
        store=f"{RESULTS}/.records",
    message:
        "GGUF baseline"
