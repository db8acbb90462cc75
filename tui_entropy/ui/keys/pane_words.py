"""What the words of each pane mean: shown where the mouse is over it, and in the help."""

from __future__ import annotations

from tui_entropy.records.probes.head_patterns import PATTERNS

PANES = {
    "candidates": (
        "model %: what the model itself gives a token. final %: what it is drawn with, after temperature and all "
        "stages of sampling; the name of a stage stands where that one cut the token. The bar is solid as far as "
        "both reach, and lighter where sampling added or took away. others: all tokens without a row. Below, "
        "tokens 49152 → top-k 40 tells how many each stage left, with the share of probability that those had. "
        "Confident and its kin compare entropy and attention with recent tokens of this text, in standard "
        "deviations (σ): Uncertain is both high, Overconfident both low, leaning one of them, Conflicted one of "
        "each; it is no sign of an error."
    ),
    "heads": (
        "A row is a layer, the last one on top; a cell is a head, coloured by how widely it looks: its attention "
        "entropy as a share of the most there could be, which all visible tokens alike would give. A mark is the "
        "kind of head, measured over the newest tokens: "
        + ", ".join(f"{pattern.mark} {pattern.name} ({pattern.about})" for pattern in PATTERNS)
        + ". A ~ is a layer that sees a window of the newest tokens only."
    ),
    "chart": (
        "A column is a token. Entropy: how unsure the model was, 0 for certain. Varentropy: how much the surprise"
        " of its candidates varies. Hot columns are those that are hot in the text; a pin is a change of a knob, "
        "a line below a control vector that is on."
    ),
    "knobs": (
        "How the next token is drawn. T is the temperature; stage order is the order in which the stages of "
        "sampling act: that of transformers (hf), llama.cpp or vllm; candidates is how many are kept for each "
        "token. Vectors steer the model: O says whether a change of one acts on what is written from here on, or "
        "has the text before read again under it."
    ),
}
"""By the id of the pane; of those whose words are not all explained where they stand."""
