"""Chat templates are Jinja from the model folder, rendered in a sandbox with bounds on size and time.

The template is the operator's, the messages are the client's. The sandbox keeps a template from reaching Python
objects; the bounds keep one that loops over long messages from holding up every other request.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from hedgespec.errors import ModelFolderError, RequestError

MAX_TEMPLATE_CHARS = 256 << 10
MAX_RENDERED_CHARS = 4 << 20
"""Four times the largest body: a template adds a few markers per message."""

MAX_RENDER_CPU_S = 1.0

# What a template can run into with messages that it was not made for.
_TEMPLATE_ERRORS = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    RecursionError,
)


class ChatTemplate:
    """A compiled template. special_tokens: `bos_token` and the like, as templates name them."""

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        """Raises ModelFolderError for a template that does not compile."""
        if len(source) > MAX_TEMPLATE_CHARS:
            raise ModelFolderError(f"the chat template is longer than {MAX_TEMPLATE_CHARS} characters.")
        self._source = source
        self._special_tokens = dict(special_tokens)
        try:
            self._template = _make_environment().from_string(source)
        except (jinja2.TemplateError, RecursionError) as error:
            raise ModelFolderError(f"the chat template does not compile: {error}") from error

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Return the prompt text, the generation prompt included. Raises RequestError when the template refuses."""
        values = {**self._special_tokens, "messages": [dict(m) for m in messages], "add_generation_prompt": True}
        budget = _Budget()
        token = _budget.set(budget)
        parts: list[str] = []
        try:
            for part in self._template.generate(values):
                budget.spend(len(part))
                parts.append(part)
        except _Exhausted:
            raise _refused("takes too long or writes too much for these messages") from None
        except _Refusal as refusal:
            raise self._explain(str(refusal)) from None
        except _TEMPLATE_ERRORS:
            raise _refused("cannot render these messages") from None
        finally:
            _budget.reset(token)
        return "".join(parts)

    def _explain(self, reason: str) -> RequestError:
        # Only text that stands in the template itself is shown: a template may quote what the client sent.
        is_constant = 0 < len(reason) <= 200 and reason in self._source
        return _refused(f"refuses these messages: {reason}" if is_constant else "refuses these messages")


class _Exhausted(Exception):
    """A render used up its budget."""


class _Refusal(Exception):
    """The template called raise_exception."""


class _Budget:
    """CPU seconds of this thread and characters of output that one render may use."""

    def __init__(self) -> None:
        self._deadline_s = time.thread_time() + MAX_RENDER_CPU_S
        self._num_chars = 0

    def spend(self, num_chars: int) -> None:
        self._num_chars += num_chars
        if self._num_chars > MAX_RENDERED_CHARS:
            raise _Exhausted
        self.check_time()

    def check_time(self) -> None:
        if time.thread_time() > self._deadline_s:
            raise _Exhausted


_budget: ContextVar[_Budget] = ContextVar("chat_template_budget")


class _Sandbox(ImmutableSandboxedEnvironment):
    """Checks the clock wherever a template calls or looks something up: a loop that does neither is bounded by the
    sandbox's own limit on `range`."""

    intercepted_binops = frozenset(["*", "**"])

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        _budget.get().check_time()
        return super().call(context, obj, *args, **kwargs)

    def getattr(self, obj: Any, attribute: str) -> Any:
        _budget.get().check_time()
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        _budget.get().check_time()
        return super().getitem(obj, argument)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" and not (abs(left) <= 1 << 16 and abs(right) <= 64):
            raise _Exhausted
        if operator == "*":
            sized, times = (left, right) if hasattr(left, "__len__") else (right, left)
            if hasattr(sized, "__len__") and len(sized) * times > MAX_RENDERED_CHARS:
                raise _Exhausted
        return super().call_binop(context, operator, left, right)


class _GenerationBlock(Extension):
    """`{% generation %}` marks the assistant's tokens for training; for serving it is its own content."""

    tags = {"generation"}  # noqa: RUF012 (jinja2's own interface)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.If(nodes.Const(True), body, [], [], lineno=line)


def _make_environment() -> ImmutableSandboxedEnvironment:
    """The environment that transformers renders templates in, so that published templates mean the same here."""
    environment = _Sandbox(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, "jinja2.ext.loopcontrols"], cache_size=0
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


def _to_json(value: Any, indent: int | None = None, ensure_ascii: bool = False, sort_keys: bool = False) -> str:
    # jinja2's own filter escapes HTML, which would change the prompt.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, sort_keys=sort_keys)


def _refuse(reason: str) -> None:
    raise _Refusal(reason)


def _refused(what: str) -> RequestError:
    return RequestError(f"The model's chat template {what}.", code="invalid_value", param="messages")
