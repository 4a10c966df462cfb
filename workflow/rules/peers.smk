"""Attention kernels of other libraries, compared with ours, if the config enables them: one job, a record per peer."""

PEERS = [str(record) for record in PLAN.peer_records]


rule peer:
    input:
        BINARIES,
        BUILD_MANIFESTS,
        MEASURING_ENVIRONMENTS,
        PEERS_ENVIRONMENT,
        settings=f"{RESULTS}/.plan/peers.json",
        files=[*PLAN.peer_files],
        cases=[f"{RESULTS}/.plan/cases/{case}.json" for case in PLAN.peer_cases],
    output:
        PEERS,
    log:
        f"{RESULTS}/.logs/peer.log",
    threads: RUN.threads(RUN.peers_demand, workflow.cores)
    resources:
        gpu=RUN.peers_demand.gpu,
        mem_mb=RUN.peers_demand.mem_mb,
        runtime=RUN.peers_demand.runtime,
        slurm_extra=RUN.peers_demand.slurm_extra,
    params:
        results=subpath(output[0], parent=True),
        store=f"{RESULTS}/.records",
    message:
        "measure peers' kernels"
    shell:
        "exec python -m elastickv baseline peers --settings {input.settings:q}"
        " --cases {input.cases:q} --results {params.results:q} --store {params.store:q} ${{ELASTICKV_REMEASURE:+--remeasure}}"
        " 2> >(tee -i {log:q} >&2)"
