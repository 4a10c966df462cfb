"""Writes `schemas/*.schema.json` and docs/matrix.md from the models: `python -m elastickv.schemas.generate`."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import MISSING
from pydantic.json_schema import GenerateJsonSchema

from elastickv import records, schemas
from elastickv.schemas import config

CHECKOUT = Path(__file__).resolve().parents[3]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
NAMED, LITERAL = ("properties", "$defs"), ("default", "const", "enum")  # keywords whose content is not a schema
OF_CONFIG_FILES = ("config",)  # users omit keys in these; in all other files, fields with a default are always written


class _Generator(GenerateJsonSchema):
    """Generates schemas in the form that this project's error messages are built from."""

    def field_is_required(self, field: Any, total: bool) -> bool:
        """A field is optional exactly if its default is MISSING."""
        return field["schema"].get("default") is not MISSING and super().field_is_required(field, total)

    def dict_schema(self, schema: Any) -> dict[str, Any]:
        """Rules for keys become `propertyNames`, so that errors distinguish bad names from bad values."""
        names = self.generate_inner(schema["keys_schema"])
        names.pop("type", None)
        made = {"type": "object", "additionalProperties": self.generate_inner(schema["values_schema"])}
        return made | ({"propertyNames": names} if names else {})

    def tagged_union_schema(self, schema: Any) -> dict[str, Any]:
        """Selects one model by its tag, so that errors concern that model; `oneOf` could only report that none matches.

        A discriminator with `key` and `implied` selects the choice `implied` for objects without that key.
        """
        tag, choices = schema["discriminator"], schema["choices"]
        implied = getattr(tag, "implied", None)
        tag = getattr(tag, "key", tag)
        rules = []
        for name, choice in choices.items():
            has = {"required": [tag]}
            condition = {"not": has} if name == implied else {"properties": {tag: {"const": name}}} | has
            rules.append({"if": condition, "then": self.generate_inner(choice)})
        allowed = {"enum": [name for name in choices if name != implied]}
        return {
            "type": "object",
            **({} if implied else {"required": [tag]}),
            "properties": {tag: allowed},
            "allOf": rules,
        }

    def get_title_from_name(self, name: str) -> str:
        return ""


def schema(name: str) -> dict[str, Any]:
    """The JSON schema of one module of this package."""
    module = import_module(f"{schemas.__name__}.{name}")
    written = name not in OF_CONFIG_FILES
    mode = "serialization" if written else "validation"
    made = module.ROOT.model_json_schema(mode=mode, schema_generator=_Generator)
    made = _tidied(made, defaults=not written)
    return {"$schema": DIALECT, "$id": f"{name}.schema.json", "title": module.TITLE} | made


def _tidied(part: Any, defaults: bool) -> Any:
    """Simplifies a schema: readable order, no titles, `X or null` as one schema, defaults only for scalars."""
    if isinstance(part, list):
        return [_tidied(item, defaults) for item in part]
    if not isinstance(part, dict):
        return part
    made = {
        key: {name: _tidied(item, defaults) for name, item in value.items()}
        if key in NAMED
        else value
        if key in LITERAL
        else _tidied(value, defaults)
        for key, value in part.items()
        if key != "title" and (key != "default" or (defaults and not isinstance(value, dict)))
    }
    return dict(sorted(_nullable(made).items(), key=lambda item: (item[0] != "description", item[0] == "$defs")))


def _nullable(part: dict[str, Any]) -> dict[str, Any]:
    """Converts `anyOf: [{type: integer}, {type: null}]` to `type: [integer, null]`, which messages can describe."""
    choices = part.get("anyOf", [])
    if len(choices) != 2 or choices[1] != {"type": "null"} or not isinstance(choices[0].get("type"), str):
        return part
    made = choices[0] | {key: value for key, value in part.items() if key != "anyOf"}
    made["type"] = [choices[0]["type"], "null"]
    if "const" in made:
        made["enum"] = [made.pop("const")]
    if "enum" in made:
        made["enum"] = [*made["enum"], None]
    return made


def contents() -> dict[Path, str]:
    """Path (relative to the checkout) and content of every generated file."""
    from elastickv.schemas import reference

    modules = [import_module(f"{schemas.__name__}.{found.name}") for found in pkgutil.iter_modules(schemas.__path__)]
    names = [module.__name__.rpartition(".")[2] for module in modules if hasattr(module, "ROOT")]
    files = {Path("schemas", f"{name}.schema.json"): records.to_json(schema(name)) for name in names}
    return files | {Path("docs/matrix.md"): reference.page(schema("config"))}


def renew() -> None:
    """Rewrites the files if the keys of cases have changed.

    That happens when a storage format, policy, anchor rule or workload is added, changed or removed.
    """
    keys = config.CaseKeys.model_json_schema(schema_generator=_Generator)
    if records.schema("config")["$defs"]["CaseKeys"] != _tidied(keys, defaults=True):
        main()
        records.schema.cache_clear()


def main() -> None:
    """Writes the generated files of this checkout."""
    for path, text in contents().items():
        records.write_text(CHECKOUT / path, text)


if __name__ == "__main__":
    main()
