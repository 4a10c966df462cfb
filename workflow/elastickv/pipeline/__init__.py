"""One run of the DAG: its plan, its start under Snakemake, what each rule asks of a machine."""
