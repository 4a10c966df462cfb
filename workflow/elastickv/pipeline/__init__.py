"""One run of the DAG: its plan, its start under Snakemake, and the resources of each rule."""
