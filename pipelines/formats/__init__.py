"""From the value bytes of records to frames: raw, pcm16, json, tf_example and arrow.

::

    RawBatch ── empty? ── parse (one file per format) ── usable? ──> frames, in offset order
                   └───────────────┴──────────────────────┴────────> dead letters, in offset order
"""

from pipelines.formats.decoder import Decoded, Decoder, make_decoder

__all__ = ["Decoded", "Decoder", "make_decoder"]
