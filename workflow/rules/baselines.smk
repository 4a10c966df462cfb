"""Language-model baselines, each enabled by the config."""

BASELINES = [f"{RESULTS}/transformers_baseline.json"] if PLAN.transformers else []


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
        gpu=1,
    message:
        "Transformers baseline"
    shell:
        "ELASTICKV_LOG={log} exec python -m elastickv baseline transformers --settings {input.settings} --out {output}"
