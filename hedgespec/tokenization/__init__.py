"""Tokenization turns text into ids and back with the `tokenizers` library: the router never imports transformers."""

from hedgespec.tokenization.detokenizer import Detokenizer
from hedgespec.tokenization.tokenizer import Tokenizer

__all__ = ["Detokenizer", "Tokenizer"]
