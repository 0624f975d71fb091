"""Check a graph as ComfyUI does and answer with bodies of the same shape.

What is checked: node classes, links, types, missing inputs, ranges, choices, input pictures. Not a
copy of the server's code: only what a client can see of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.comfy_nodes import NODES, choices_of, spec

Json = dict[str, Any]
_MAKE: dict[str, Callable[[Any], Any]] = {"INT": int, "FLOAT": float, "STRING": str}


@dataclass
class Verdict:
    """`error` is None when at least one output can run; `node_errors` may hold entries even then."""

    error: Json | None = None
    outputs: list[str] = field(default_factory=list)
    node_errors: dict[str, Json] = field(default_factory=dict)


class _Broken(Exception):
    """A node that cannot even be looked at: a link into nowhere."""

    def __init__(self, text: str, type_name: str) -> None:
        super().__init__(text)
        self.type_name = type_name


def check(
    graph: dict[str, Any], folders: dict[str, list[str]], has_input: Callable[[str], bool], *, new: bool
) -> Verdict:
    """Return what the server would say to this graph. Numbers given as text are converted in place."""
    for id, node in graph.items():
        kind = node.get("class_type")
        if kind is None or kind not in NODES:
            return Verdict(_no_such_node(id, node, new))
    outputs = [id for id, node in graph.items() if NODES[node["class_type"]].output_node]
    if not outputs:
        return Verdict(_error("prompt_no_outputs", "Prompt has no outputs"))
    checker = _Checker(graph, folders, has_input, new)
    verdict = Verdict()
    texts: list[str] = []
    for output in outputs:
        try:
            if checker.node(output):
                verdict.outputs.append(output)
                continue
        except _Broken as exc:
            info = {"exception_type": exc.type_name, "traceback": ["  in validate_inputs\n"]}
            checker.found[output] = [
                _row("exception_during_validation", "Exception when validating node", str(exc), info)
            ]
        texts += [f"{row['message']}: {row['details']}" for row in checker.found.get(output) or []]
        for id, rows in checker.found.items():
            if rows:
                entry = {"errors": rows, "dependent_outputs": [], "class_type": graph[id]["class_type"]}
                verdict.node_errors.setdefault(id, entry)["dependent_outputs"].append(output)
    if not verdict.outputs:
        verdict.error = _error("prompt_outputs_failed_validation", "Prompt outputs failed validation", "\n".join(texts))
    return verdict


class _Checker:
    def __init__(self, graph: Json, folders: dict[str, list[str]], has_input: Callable[[str], bool], new: bool) -> None:
        self._graph, self._folders, self._has_input, self._new = graph, folders, has_input, new
        self.found: dict[str, list[Json]] = {}  # node -> its own errors
        self._fine: dict[str, bool] = {}

    def node(self, id: str) -> bool:
        """Check a node and all that it needs. Raises _Broken for a link into nowhere."""
        if id in self._fine:
            return self._fine[id]
        data = self._graph[id]
        node = NODES[data["class_type"]]
        inputs = data.setdefault("inputs", {})
        rows: list[Json] = []
        fine = True
        for name, kind in {**node.required, **node.optional}.items():
            if name not in inputs:
                if name in node.required:
                    rows.append(_row("required_input_missing", "Required input is missing", name, {"input_name": name}))
                continue
            shown = spec(node, name, kind, self._folders, new=self._new)
            value = inputs[name]
            if isinstance(value, list):
                error, good = self._link(name, kind, shown, value)
                fine &= good
            else:
                error = self._value(data["class_type"], inputs, name, kind, shown)
            if error:
                rows.append(error)
        self._fine[id] = fine and not rows
        if id not in self.found or rows:
            self.found[id] = rows
        return self._fine[id]

    def _link(self, name: str, kind: Any, shown: list[Any], value: list[Any]) -> tuple[Json | None, bool]:
        info = {"input_name": name, "input_config": shown}
        if len(value) != 2:
            text = "Bad linked input, must be a length-2 list of [node_id, slot_index]"
            return _row("bad_linked_input", text, name, {**info, "received_value": value}), True
        source, slot = value
        if not isinstance(source, str) or source not in self._graph:
            raise _Broken(repr(source), "KeyError")
        types = NODES[self._graph[source]["class_type"]].outputs
        if not isinstance(slot, int) or slot >= len(types):
            raise _Broken("tuple index out of range", "IndexError")
        wanted = kind[0] if isinstance(kind, tuple) else kind
        if types[slot] != wanted:
            details = f"{name}, received_type({types[slot]}) mismatch input_type({wanted})"
            extra = {**info, "received_type": types[slot], "linked_node": value}
            return _row("return_type_mismatch", "Return type mismatch between linked nodes", details, extra), True
        try:
            return None, self.node(source)
        except _Broken as exc:
            extra = {
                **info,
                "exception_message": str(exc),
                "exception_type": exc.type_name,
                "traceback": ["  in validate_inputs\n"],
                "linked_node": value,
            }
            text = "Exception when validating inner node"
            self.found[source] = [_row("exception_during_inner_validation", text, str(exc), extra)]
            self._fine[source] = False
            return None, False

    def _value(self, class_type: str, inputs: Json, name: str, kind: Any, shown: list[Any]) -> Json | None:
        value = inputs[name]
        info = {"input_name": name, "input_config": shown, "received_value": value}
        if kind == "@input":
            if self._has_input(str(value)):
                return None
            text = f"{name} - Invalid image file: {value}"
            return _row("custom_validation_failed", "Custom validation failed for node", text, {"input_name": name})
        choices = choices_of(kind, self._folders)
        if choices is not None:
            if value in choices:
                return None
            long = len(choices) > 20
            listed = f"(list of length {len(choices)})" if long else str(choices)
            if long:
                info["input_config"] = None
            return _row("value_not_in_list", "Value not in list", f"{name}: '{value}' not in {listed}", info)
        if not isinstance(kind, tuple):  # a socket with a plain value in it: accepted here, fails when it runs
            return None
        type_name, limits = kind
        try:
            value = inputs[name] = _MAKE[type_name](value)
        except (TypeError, ValueError) as exc:
            text = f"Failed to convert an input value to a {type_name} value"
            return _row("invalid_input_type", text, f"{name}, {value}, {exc}", {**info, "exception_message": str(exc)})
        info["received_value"] = value
        if "min" in limits and value < limits["min"]:
            return _row("value_smaller_than_min", f"Value {value} smaller than min of {limits['min']}", name, info)
        if "max" in limits and value > limits["max"]:
            return _row("value_bigger_than_max", f"Value {value} bigger than max of {limits['max']}", name, info)
        return None


def order(graph: Json, outputs: list[str]) -> list[str]:
    """Return the nodes in the order they run: what a node needs comes before it."""
    done: list[str] = []

    def visit(id: str) -> None:
        if id in done:
            return
        for value in graph[id].get("inputs", {}).values():
            if isinstance(value, list) and len(value) == 2 and value[0] in graph:
                visit(value[0])
        done.append(id)

    for output in outputs:
        visit(output)
    return done


def _no_such_node(id: str, node: Json, new: bool) -> Json:
    kind = node.get("class_type")
    if kind is None:
        text = "Cannot execute because a node is missing the class_type property."
    elif new:
        text = f"Node '{kind}' not found. The custom node may not be installed."
    else:
        text = f"Cannot execute because node {kind} does not exist."
    title = (node.get("_meta") or {}).get("title", kind)
    extra = {"node_id": id, "class_type": kind, "node_title": title} if new else {}
    return _error("missing_node_type" if new else "invalid_prompt", text, f"Node ID '#{id}'", extra)


def _error(type: str, message: str, details: str = "", extra: Json | None = None) -> Json:
    return {"type": type, "message": message, "details": details, "extra_info": extra or {}}


_row = _error
