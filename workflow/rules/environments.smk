"""The heavy environments: made from their locks, each in its own folder, only when an enabled rule needs them."""

# The mark of a finished environment; it changes only with the pins of its lock. Not ancient(): Snakemake 9 leaves out jobs
# behind an ancient input whose rule has to run, even when they have to run themselves. The record store makes up for it.
CUDA_ENVIRONMENT = ".envs/cuda/ready"
LLM_ENVIRONMENT = ".envs/llm/ready"
GGUF_ENVIRONMENT = ".envs/gguf/ready"
PEERS_ENVIRONMENT = ".envs/peers/ready"


# On a cluster, where the network is: compute nodes often have none.
localrules:
    environment,


rule environment:
    input:
        ".envs/.plan/{name}.json",
    output:
        ".envs/{name}/ready",
    log:
        "build/.logs/environment_{name}.log",
    message:
        "make .envs/{wildcards.name}"
    shell:
        "exec python -m elastickv env {wildcards.name:q}" " 2> >(tee -i {log:q} >&2)"
