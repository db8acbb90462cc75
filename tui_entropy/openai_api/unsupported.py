"""Fields of requests that ask for what is not done here."""

from __future__ import annotations

from typing import Any

from tui_entropy.openai_api.errors import wrong

IDLE: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
    "top_logprobs": (),
    # of vLLM and llama.cpp
    "prompt_logprobs": (),
    "prompt_embeds": (),
    "min_tokens": (0,),
    "n_predict": (),
    "ignore_eos": (False,),
    "stop_token_ids": ([],),
    "include_stop_str_in_output": (False,),
    "skip_special_tokens": (True,),
    "use_beam_search": (False,),
    "length_penalty": (1,),
    "bad_words": ([],),
    "allowed_token_ids": ([],),
    "truncate_prompt_tokens": (),
    "add_generation_prompt": (True,),
    "continue_final_message": (False,),
    "chat_template": (),
    "chat_template_kwargs": ({},),
    "documents": ([],),
    "structured_outputs": (),
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": ([],),
    "guided_grammar": (),
    "grammar": ("",),
    "json_schema": ({},),
    "logits_processors": ([],),
}
"""Field -> values with which it asks for nothing. With any other one the answer would be another."""


def asks_nothing(name: str, value: Any) -> bool:
    """Whether a field asks for nothing; False where it is passed over though it may. Raises ApiError for what would
    change the answer and is not done here."""
    if name not in IDLE:
        return False
    if value in IDLE[name]:
        return True
    idle = " or ".join(repr(each) for each in IDLE[name])
    raise wrong(name, "is not supported here" + (f": leave it out, or give {idle}" if idle else ": leave it out"))
