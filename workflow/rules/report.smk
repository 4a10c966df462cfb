"""From records to verdicts and reports. A rule reads only its inputs, which are all in the results folder.

All rules read the plan's cases, so that a removed case leaves every table.
"""

CASES = f"{RESULTS}/.plan/cases.json"
CASE_FILES = [f"{RESULTS}/.plan/cases/{case}.json" for case in PLAN.cases]
GOLDEN = f"{RESULTS}/.plan/golden.json"
NOISE = f"{RESULTS}/.plan/noise.json"
SUMMARY = f"{RESULTS}/summary.csv"
VERDICTS = f"{RESULTS}/verdicts.json"
REPORT = f"{RESULTS}/report.md"
FIGURES = f"{RESULTS}/figures"
POSTS = f"{RESULTS}/social_media_content.txt"
POSTS_TRACE = f"{RESULTS}/social_media_content.json"
NOTEBOOK = f"{RESULTS}/elastic_kv_benchmark.ipynb"
MANIFEST = f"{RESULTS}/manifest.json"
REPORTS = [SUMMARY, VERDICTS, REPORT, FIGURES, POSTS, NOTEBOOK, MANIFEST]


# They take seconds each, so on a cluster they run on the head node.
localrules:
    summarise,
    verdict,
    report_markdown,
    figures,
    social,
    notebook,
    manifest,


rule summarise:
    input:
        RECORDS,
        PEERS,
        CASE_FILES,
        cases=CASES,
        noise=NOISE,
    output:
        SUMMARY,
    log:
        f"{RESULTS}/.logs/summarise.log",
    params:
        results=subpath(output[0], parent=True),
    message:
        "write {output}"
    shell:
        "exec python -m elastickv summarise --cases {input.cases:q} --noise {input.noise:q}"
        " --results {params.results:q} --out {output:q}"
        " 2> >(tee -i {log:q} >&2)"


rule verdict:
    input:
        RECORDS,
        CASE_FILES,
        cases=CASES,
        golden=GOLDEN,
        noise=NOISE,
    output:
        VERDICTS,
    log:
        f"{RESULTS}/.logs/verdict.log",
    params:
        results=subpath(output[0], parent=True),
    message:
        "write {output}"
    shell:
        "exec python -m elastickv verdict --cases {input.cases:q} --golden {input.golden:q}"
        " --noise {input.noise:q} --results {params.results:q} --out {output:q}"
        " 2> >(tee -i {log:q} >&2)"


rule report_markdown:
    input:
        RECORDS,
        CEILINGS,
        BASELINES,
        PEERS,
        VERDICTS,
        CASE_FILES,
        cases=CASES,
    output:
        REPORT,
    log:
        f"{RESULTS}/.logs/report_markdown.log",
    params:
        results=subpath(output[0], parent=True),
    message:
        "write {output}"
    shell:
        "exec python -m elastickv report markdown --cases {input.cases:q}"
        " --results {params.results:q} --out {output:q}"
        " 2> >(tee -i {log:q} >&2)"


rule figures:
    input:
        RECORDS,
        CEILINGS,
        VERDICTS,
        CASE_FILES,
        cases=CASES,
    output:
        directory(FIGURES),
    log:
        f"{RESULTS}/.logs/figures.log",
    params:
        results=subpath(output[0], parent=True),
    message:
        "write {output}"
    shell:
        "exec python -m elastickv report figures --cases {input.cases:q}"
        " --results {params.results:q} --out {output:q}"
        " 2> >(tee -i {log:q} >&2)"


rule social:
    input:
        RECORDS,
        CEILINGS,
        VERDICTS,
        CASE_FILES,
        cases=CASES,
    output:
        posts=POSTS,
        trace=POSTS_TRACE,
    log:
        f"{RESULTS}/.logs/social.log",
    params:
        results=subpath(output[0], parent=True),
    message:
        "write {output.posts}"
    shell:
        "exec python -m elastickv report social --cases {input.cases:q}"
        " --results {params.results:q} --out {output.posts:q}"
        " 2> >(tee -i {log:q} >&2)"


# Depends on the fingerprint of the sources alone: neither a result nor a comment in a kernel changes it.
rule notebook:
    input:
        f"{RESULTS}/.plan/notebook.json",
    output:
        NOTEBOOK,
    log:
        f"{RESULTS}/.logs/notebook.log",
    params:
        cases=CASES,
        results=subpath(output[0], parent=True),
    message:
        "write {output}"
    shell:
        "exec python -m elastickv report notebook --cases {params.cases:q}"
        " --results {params.results:q} --out {output:q}"
        " 2> >(tee -i {log:q} >&2)"


rule manifest:
    input:
        RECORDS,
        CEILINGS,
        BASELINES,
        PEERS,
        SUMMARY,
        VERDICTS,
        REPORT,
        FIGURES,
        POSTS,
        POSTS_TRACE,
        NOTEBOOK,
        CASE_FILES,
        GOLDEN,
        NOISE,
        f"{RESULTS}/.plan/config.json",
        f"{RESULTS}/.plan/run.json",
        cases=CASES,
    output:
        MANIFEST,
    log:
        f"{RESULTS}/.logs/manifest.log",
    params:
        results=subpath(output[0], parent=True),
    message:
        "write {output}"
    shell:
        "exec python -m elastickv report manifest --cases {input.cases:q}"
        " --results {params.results:q} --out {output:q}"
        " 2> >(tee -i {log:q} >&2)"
