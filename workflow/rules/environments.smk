"""The heavy environments: made from their locks, each in its own folder, only when an enabled rule needs them."""

# The mark of a finished environment. Users take it as ancient(): its time re-times nothing, since what matters of a lock
# (compiler versions) is in the fingerprints.
CUDA_ENVIRONMENT = ".envs/cuda/ready"
LLM_ENVIRONMENT = ".envs/llm/ready"


rule environment:
    input:
        "build/.plan/environment_{name}.json",
    output:
        ".envs/{name}/ready",
    log:
        "build/.logs/environment_{name}.log",
    message:
        "make .envs/{wildcards.name}"
    shell:
        "ELASTICKV_LOG={log} exec python -m elastickv env {wildcards.name}"
