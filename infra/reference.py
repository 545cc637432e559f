"""The API's document as plain pages: HTML and one inline style, no script, nothing from any other host.

Always true here: every text of the document is escaped; the pages are a pure function of the document.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

__all__ = ["example_of", "operations_page", "reference_page"]

Json = Mapping[str, Any]
_DEEPEST = 6

STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8881;--link:#0b63ce}
@media(prefers-color-scheme:dark){:root{--link:#7ab7ff}}
*{box-sizing:border-box}
body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:0 auto;padding:1.5rem}
a{color:var(--link)} h2{margin-top:2.5rem;border-bottom:1px solid var(--line)}
details{border:1px solid var(--line);border-radius:.5rem;margin:.6rem 0;padding:.3rem .8rem}
summary{cursor:pointer;padding:.3rem 0} summary code{font-weight:600}
.method{display:inline-block;min-width:4.5rem;font:600 .8rem/1.6 ui-monospace,monospace;text-align:center;
border-radius:.3rem;color:#fff;background:#555;margin-right:.5rem}
.get{background:#1d6f42}.post{background:#0b5cad}.put{background:#8a5a00}.delete{background:#a3262a}
table{border-collapse:collapse;width:100%;margin:.5rem 0;font-size:.92rem}
th,td{text-align:left;vertical-align:top;border-bottom:1px solid var(--line);padding:.3rem .5rem}
pre{background:var(--soft);padding:.7rem;border-radius:.4rem;overflow:auto;font-size:.85rem}
.wide{overflow-x:auto}
"""


def operations_page(document: Json) -> str:
    """Return the page that lists each operation with its parameters, answers and a curl call."""
    return _page(document, _operations(document, is_open=False), "/redoc", "as a reference with every schema")


def reference_page(document: Json) -> str:
    """Return the page that shows all operations open, then every schema."""
    schemas = document.get("components", {}).get("schemas", {})
    parts = [f"<h2>Schemas</h2>{''.join(_schema_section(name, schema) for name, schema in schemas.items())}"]
    return _page(document, _operations(document, is_open=True) + "".join(parts), "/docs", "as a list of operations")


def _page(document: Json, content: str, other: str, other_name: str) -> str:
    title = f"{document['info']['title']} API {document['info']['version']}"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>{STYLE}</style></head>\n<body><main>"
        f"<h1>{escape(title)}</h1><p>{escape(document['info'].get('description', ''))}</p>"
        f'<p>The same <a href="{other}">{other_name}</a>, or <a href="/openapi.json">for programs</a>.</p>\n'
        f"{content}</main></body></html>\n"
    )


def _operations(document: Json, *, is_open: bool) -> str:
    sections = []
    for tag in document["tags"]:
        operations = "".join(
            _operation(document, path, method, operation, is_open=is_open)
            for path, method, operation in _each(document)
            if operation["tags"][0] == tag["name"]
        )
        sections.append(f"<h2>{escape(tag['name'])}</h2><p>{escape(tag['description'])}</p>\n{operations}")
    return "".join(sections)


def _each(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield path, method, operation


def _operation(document: Json, path: str, method: str, operation: Json, *, is_open: bool) -> str:
    locked = " · needs an access token" if operation.get("security") else ""
    body = [f"<p>{escape(operation.get('description', ''))}</p>"]
    if operation.get("parameters"):
        body.append(_parameters(operation["parameters"]))
    if request := _request_schema(operation):
        body.append(f"<p>Body: {_type(request)}</p>{_pre(_json(example_of(document, request)))}")
    body.append(_answers(operation["responses"]))
    body.append(_pre(_curl(document, path, method, operation)))
    return (
        f'<details id="{escape(operation["operationId"])}"{" open" if is_open else ""}><summary>'
        f'<span class="method {method}">{method.upper()}</span><code>{escape(path)}</code> '
        f"{escape(operation['summary'])}{locked}</summary>{''.join(body)}</details>\n"
    )


def _parameters(parameters: list[Json]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(each['name'])}</code></td>"
        f"<td>{each['in']}{', required' if each.get('required') else ''}</td>"
        f"<td>{_type(each['schema'])}</td><td>{escape(each.get('description', ''))}</td></tr>"
        for each in parameters
    )
    head = "<tr><th>Parameter</th><th>In</th><th>Type</th><th>What</th></tr>"
    return f'<div class="wide"><table>{head}{rows}</table></div>'


def _answers(responses: Json) -> str:
    rows = ""
    for status, response in responses.items():
        schemas = [_type(each["schema"]) for each in response.get("content", {}).values() if each.get("schema")]
        rows += f"<tr><td>{status}</td><td>{escape(response['description'])}</td><td>{', '.join(schemas)}</td></tr>"
    return f'<div class="wide"><table><tr><th>Answer</th><th>When</th><th>Body</th></tr>{rows}</table></div>'


def _schema_section(name: str, schema: Json) -> str:
    required = schema.get("required", [])
    rows = "".join(
        f"<tr><td><code>{escape(field)}</code>{'' if field in required else ' (optional)'}</td>"
        f"<td>{_type(entry)}</td><td>{escape(entry.get('description', ''))}</td></tr>"
        for field, entry in schema.get("properties", {}).items()
    )
    table = f'<div class="wide"><table>{rows}</table></div>' if rows else _type(schema)
    return f'<h3 id="schema-{escape(name)}">{escape(name)}</h3><p>{escape(schema.get("description", ""))}</p>{table}\n'


def _type(schema: Json) -> str:
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="/redoc#schema-{name}">{name}</a>'
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(_type(each) for each in schema[key])
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return " | ".join(f"<code>{escape(json.dumps(value))}</code>" for value in values)
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    default = f", default <code>{escape(json.dumps(schema['default']))}</code>" if "default" in schema else ""
    return f"{escape(str(schema.get('format') or schema.get('type') or 'anything'))}{default}"


def _request_schema(operation: Json) -> Json | None:
    content = operation.get("requestBody", {}).get("content", {})
    return next((each["schema"] for each in content.values()), None)


def example_of(document: Json, schema: Json, depth: int = 0) -> Any:
    """Return a value that fits ``schema``: its own example where it has one, else one made from its type."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if known := _stated(schema):
        return known[0]
    if choices := next((schema[key] for key in ("anyOf", "oneOf", "allOf") if schema.get(key)), None):
        return example_of(document, choices[0], depth)
    if depth > _DEEPEST:
        return None
    if schema.get("type") == "array":
        return [example_of(document, schema.get("items", {}), depth + 1)]
    if "properties" in schema:
        return {name: example_of(document, entry, depth + 1) for name, entry in schema["properties"].items()}
    return {"integer": 1, "number": 1.0, "boolean": True, "string": "text"}.get(str(schema.get("type")), {})


def _stated(schema: Json) -> list[Any]:
    """Return the values that a schema itself names, best first."""
    named = [*schema.get("examples", []), *schema.get("enum", [])]
    return named + [schema[key] for key in ("default", "const") if key in schema]


def _curl(document: Json, path: str, method: str, operation: Json) -> str:
    for each in operation.get("parameters", []):
        if each["in"] == "path":
            value = (each.get("examples") or each["schema"].get("examples") or ["value"])[0]
            path = path.replace(f"{{{each['name']}}}", str(value))
    parts = [f"curl {'' if method == 'get' else f'-X {method.upper()} '}'http://localhost:2001{path}'"]
    if operation.get("security"):
        parts.append('-H "Authorization: Bearer $TOKEN"')
    if request := _request_schema(operation):
        parts += ["-H 'Content-Type: application/json'", f"-d '{json.dumps(example_of(document, request))}'"]
    return " \\\n  ".join(parts)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _pre(text: str) -> str:
    return f"<pre><code>{escape(text)}</code></pre>"
