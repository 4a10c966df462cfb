"""The heavy environments, each made from its lock in a separate folder, only when an enabled rule needs it."""

# Each file marks a finished environment and changes only with the pins of its lock. The inputs are not ancient():
# Snakemake 9 would skip jobs behind an ancient input whose rule runs, even jobs that must run for another reason. Jobs
# that run without need find their records in the store.
CUDA_ENVIRONMENT = ".envs/cuda/ready"
LLM_ENVIRONMENT = ".envs/llm/ready"
GGUF_ENVIRONMENT = ".envs/gguf/ready"
PEERS_ENVIRONMENT = ".envs/peers/ready"


# On a cluster it runs on the head node, which has the network; compute nodes often have none.
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
