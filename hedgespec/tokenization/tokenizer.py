"""The tokenizer of one model folder encodes, decodes, and knows the folder's chat template, end tokens and lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tokenizers
from numpy.typing import NDArray

from hedgespec.errors import ModelFolderError, RequestError
from hedgespec.tokenization import folder as folders
from hedgespec.tokenization.chat_template import ChatTemplate
from hedgespec.tokenization.detokenizer import Pieces

_FIRST_CHARS = 2000
_CUT_SLACK = 64


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """The tokenizer of one model; thread-safe and immutable.

    eos_token_ids: every id that ends an answer. vocab_size: the model's, may exceed the tokenizer's (padded rows).
    max_model_len: prompt and answer together. chat_template: None when the folder has none.
    """

    backend: tokenizers.Tokenizer
    pieces: Pieces
    eos_token_ids: tuple[int, ...]
    max_model_len: int
    vocab_size: int
    chat_template: ChatTemplate | None = None

    @staticmethod
    def from_folder(path: str | Path) -> Tokenizer:
        """Read tokenizer.json and the small JSON files beside it. Raises ModelFolderError."""
        path = Path(path)
        backend = _load_backend(path)
        config = folders.read_model_config(path)
        settings = folders.read_tokenizer_settings(path)
        num_ids = backend.get_vocab_size(with_added_tokens=True)
        return Tokenizer.of(
            backend,
            eos_token_ids=folders.eos_token_ids(path, config, settings, backend),
            max_model_len=folders.max_model_len(path, config, settings),
            vocab_size=folders.vocab_size(path, config, num_ids),
            chat_template=folders.chat_template(path, settings),
        )

    @staticmethod
    def of(
        backend: tokenizers.Tokenizer,
        *,
        eos_token_ids: Sequence[int],
        max_model_len: int,
        vocab_size: int,
        chat_template: ChatTemplate | None = None,
    ) -> Tokenizer:
        """Wrap a tokenizer that is already in memory."""
        pieces = Pieces.of(backend)
        if pieces.largest_id >= vocab_size:
            raise ModelFolderError(
                f"tokenizer.json has token id {pieces.largest_id}, but the model's vocab_size is {vocab_size}: "
                "tokenizer and model do not belong together."
            )
        return Tokenizer(backend, pieces, tuple(eos_token_ids), max_model_len, vocab_size, chat_template)

    def encode(self, text: str, add_special_tokens: bool = True) -> NDArray[np.int32]:
        """Return [num_tokens] ids. With add_special_tokens the folder's own rule adds BOS and the like."""
        # The fast form leaves out character offsets, which cost as much as the ids.
        encoded = self.backend.encode_batch_fast([text], add_special_tokens=add_special_tokens)[0]
        return np.asarray(encoded.ids, dtype=np.int32)

    def is_surely_longer(self, text: str, num_tokens: int) -> bool:
        """Return whether text has more than num_tokens tokens, judging by its beginning where that is enough.

        Work is bounded by num_tokens and not by the text. False means that encoding the whole text will tell.
        """
        size = max(_FIRST_CHARS, 8 * num_tokens)
        while size < len(text):
            # The last word of a cut text may split differently from the whole word, hence the slack.
            if len(self.encode(text[:size], add_special_tokens=False)) > num_tokens + _CUT_SLACK:
                return True
            size *= 4
        return False

    def decode(self, token_ids: Sequence[int] | NDArray[np.int32], skip_special_tokens: bool = False) -> str:
        """Return the whole text at once; streaming goes through `Detokenizer`."""
        return self.backend.decode([int(i) for i in token_ids], skip_special_tokens=skip_special_tokens)

    def apply_chat_template(self, messages: Sequence[Mapping[str, str]]) -> NDArray[np.int32]:
        """Render messages with the generation prompt and return their ids, [num_tokens]. Raises as `render_chat`."""
        # The template writes BOS and the other special tokens itself; adding them again would double them.
        return self.encode(self.render_chat(messages), add_special_tokens=False)

    def render_chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Return the text that `apply_chat_template` encodes.

        Raises RequestError when the folder has no template or the template refuses the messages.
        """
        if self.chat_template is None:
            raise RequestError(
                "This model has no chat template. Use /v1/completions.", code="chat_template_missing", param="messages"
            )
        return self.chat_template.render(messages)


def _load_backend(path: Path) -> tokenizers.Tokenizer:
    if not path.is_dir():
        raise ModelFolderError(f"{path} is not a folder; give the folder that holds tokenizer.json and config.json.")
    file = path / "tokenizer.json"
    if not file.is_file():
        raise ModelFolderError(
            f"{file} is missing; save the tokenizer in the fast format (`AutoTokenizer(...).save_pretrained(FOLDER)`)."
        )
    if file.stat().st_size > folders.MAX_TOKENIZER_BYTES:
        raise ModelFolderError(f"{file} is larger than {folders.MAX_TOKENIZER_BYTES} bytes; this is no tokenizer file.")
    try:
        backend = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises plain Exception for every kind of bad file
        raise ModelFolderError(f"{file} cannot be read by the tokenizers library: {error}") from error
    backend.no_padding()
    backend.no_truncation()  # a saved truncation would cut prompts silently
    return backend
