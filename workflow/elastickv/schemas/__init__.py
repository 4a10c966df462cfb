"""Typed models of the config, cases and records: each field is defined once, with type, unit, limits and meaning.

`schemas/<module>.schema.json` is generated from the model `ROOT` of each module here; `python -m
elastickv.schemas.generate` writes these files and docs/matrix.md. To add a record, add its module.
"""
