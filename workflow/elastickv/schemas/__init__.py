"""The config, a case and every record as typed models: each field once, with its type, unit, limits and meaning.

A module here is named like the file that is generated from it: `schemas/<module>.schema.json` is its model `ROOT`
(`python -m elastickv.schemas.generate` writes them and docs/matrix.md). To add a record is to add its module.
"""
