"""The JSON Schema of cluster.yaml, from the models that read it: editors complete and check the file by it.

It says what a file may look like, not how its values must agree (see `agreement`), and is no stricter than the reader.
"""

from __future__ import annotations

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from haplane.model.shape import ClusterFile


def json_schema() -> dict[str, object]:
    """Draft 2020-12."""
    schema = ClusterFile.model_json_schema(by_alias=True, schema_generator=_Generator)
    return {"$schema": _Generator.schema_dialect, **schema, "title": "cluster.yaml of haplane"}


class _Generator(GenerateJsonSchema):
    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        """pydantic takes the pattern of keys for patternProperties, which allow any other key as well."""
        values = self.generate_inner(schema["values_schema"]) if "values_schema" in schema else True
        keys = self.generate_inner(schema["keys_schema"]) if "keys_schema" in schema else {}
        names = {"propertyNames": {"pattern": keys["pattern"]}} if "pattern" in keys else {}
        return {"type": "object", "additionalProperties": values, **names}

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Only single values; a section that is left out is no default to complete."""
        made = super().default_schema(schema)
        return {key: value for key, value in made.items() if key != "default" or isinstance(value, str | int)}

    def field_title_should_be_set(self, schema: object) -> bool:
        """The key says it already."""
        return False
