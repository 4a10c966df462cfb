"""A run writes its plan when the Snakefile is read; a dry run leaves plan and manifest as they are. There the plan files
that would change are a job's, so that everything that depends on them shows as a job too.
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
