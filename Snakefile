"""Elastic KV cache benchmark: YAML matrix -> builds -> measurements -> verdicts -> report (docs/architecture.md).

snakemake --cores N [--configfile F ...] [--config key=value ...] [target]

The results folder is free text in the config, so shell commands quote every file name: {output:q}.
"""

from elastickv.pipeline import message_alone

with message_alone():  # formats, anchor rules and policies are read on import and may contradict each other
    from elastickv.pipeline import start

RUN = start.begin(workflow)
PLAN = RUN.plan
RESULTS = str(PLAN.results)


include: "workflow/rules/plan.smk"
include: "workflow/rules/environments.smk"
include: "workflow/rules/build.smk"
include: "workflow/rules/measure.smk"
include: "workflow/rules/baselines.smk"
include: "workflow/rules/peers.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        BINARIES,
        RECORDS,
        CEILINGS,
        BASELINES,
        PEERS,
        REPORTS,
    message:
        "all done"


onstart:
    RUN.start()
