"""Text to token ids and back, over the `tokenizers` library: the router process never imports transformers."""

from hedgespec.tokenization.detokenizer import Detokenizer
from hedgespec.tokenization.tokenizer import Tokenizer

__all__ = ["Detokenizer", "Tokenizer"]
