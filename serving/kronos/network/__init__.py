"""The tokenizer and the decoder of the Kronos family in torch, their checkpoints, and their way to ONNX."""

from serving.kronos.network.checkpoint import read_decoder, read_tokenizer, write_checkpoint
from serving.kronos.network.decoder import DecoderConfig, KronosDecoder
from serving.kronos.network.embedding import EmbeddingGraph
from serving.kronos.network.tokenizer import KronosTokenizer, TokenizerConfig

__all__ = [
    "DecoderConfig",
    "EmbeddingGraph",
    "KronosDecoder",
    "KronosTokenizer",
    "TokenizerConfig",
    "read_decoder",
    "read_tokenizer",
    "write_checkpoint",
]
