"""A run writes its plan when the Snakefile is read. A dry run writes nothing: the plan files that would change are the
outputs of a job, so that everything that depends on them is listed as a job too.
"""

if RUN.unwritten:

    rule plan:
        input:
            str(RUN.requested),
        output:
            [str(path) for path in RUN.unwritten],
        message:
            "write the plan"
        shell:
            "exec python -m elastickv plan"
