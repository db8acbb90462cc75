"""Every check passes on every family, and is seen failing when what it is there for goes wrong."""

import copy
import json
import math
import sys
from dataclasses import replace as with_parts

import pytest
import small
import tiny
import torch
from msgspec.structs import replace
from transformers import DeepseekV3Config

from tui_entropy.cli import main
from tui_entropy.core import paths
from tui_entropy.engine.architecture.architecture import architecture_of
from tui_entropy.engine.cache.kv_cache import PreallocatedLayer
from tui_entropy.engine.cuda_graph import forward_pass as captured
from tui_entropy.engine.decoding import choose, instruments
from tui_entropy.engine.instruments import step_tensors
from tui_entropy.engine.instruments.attention import AttentionInstrument, AttentionLayer
from tui_entropy.engine.models import forward
from tui_entropy.engine.probes.registry import PROBES
from tui_entropy.engine.reliability import report
from tui_entropy.engine.steering.hooks import Steering
from tui_entropy.engine.verify import costs, doctor
from tui_entropy.engine.verify.checks import attention, logits, steering, written
from tui_entropy.engine.verify.evidence import compare, library
from tui_entropy.metrics.registry import METRICS
from tui_entropy.records.sampling import Knobs

CHECKS = {
    "last lens row", "decode equals prefill", "revisited step", "entropy formula", "head entropies",
    "attention row sums", "attention rows", "steered block", "blocks below", "blocks above", "steering taken away",
    "written steps", "sampling chain", "repeated draws", "left as found", "head measures", "row of two",
    "steered row", "captured step", library.PASSES, library.ATTENTIONS, library.FOLLOWED,
    *(f"probe {probe.name}" for probe in PROBES),
}  # fmt: skip
VIEWS = {
    costs.PLAIN, "residual stream", "head grid", "attention rows", "logit metrics", "candidates",
    "sampling chain and draw", "prompt scores", "step record", *(f"probe {probe.name}" for probe in PROBES),
}  # fmt: skip


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    monkeypatch.setattr(costs, "ROUNDS", 2)
    monkeypatch.setattr(costs, "WARM_UP", 0)


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def family(request):
    return small.loaded(request.param)


def ids_of(loaded) -> torch.Tensor:
    return torch.tensor(loaded.tokenizer.encode(compare.PROMPT, None, chat=False)[: compare.N_PROMPT])


def failing(examined, loaded) -> set[str]:
    with torch.inference_mode():
        return {check.name for check in examined(loaded, ids_of(loaded)) if check.verdict == report.FAIL}


def test_every_check_is_made_and_passes_on_every_family(family):
    stages = []
    found = doctor.doctor(family, lambda progress: stages.append(progress.stage))
    assert {check.name for check in found.checks} >= CHECKS | {
        metric.name for metric in METRICS if metric.distribution
    }
    left_out = {check.name: check.skipped for check in found.checks if check.verdict != report.PASS}
    assert left_out.pop("attentions of transformers", "one attention").endswith(
        ("one attention", "one attention for it")
    )
    no_rows = set() if family.architecture.attention[0] else {"probe attention"}  # of the first block
    if not all(family.architecture.attention):
        no_rows |= {"probe attention-rollout", "probe flow"}
    assert set(left_out) == no_rows | (
        set() if family.architecture.croppable else {"row of two", "steered row", "captured step"}
    )
    assert found.passed
    assert {cost.view for cost in found.costs} == VIEWS
    assert len(stages) == len(doctor.CHECKS) + 2
    assert not any(module._forward_hooks for module in family.model.modules())


def test_a_model_with_several_residual_streams_passes_too(monkeypatch):
    monkeypatch.setitem(tiny.FAMILIES, "gemma3n", tiny.gemma3n)
    found = doctor.doctor(small.loaded("gemma3n"), lambda progress: None)
    assert {check.name for check in found.checks if check.verdict != report.PASS} == {
        "captured step",
        "lens rows",
        "probe attention-score",
        "probe flow",
        "probe lens",
        "probe logit-attribution",
        "probe nearest-tokens",
        "probe patching",
    }


# --- Faults ------------------------------------------------------------------------------------------------------


def without_the_norm(patch):
    def unembed(model, architecture, residual):
        return architecture.unembedding(residual)

    patch.setattr(logits, "unembed", unembed)


def without_the_cap(patch):
    patch.setattr(logits, "unembed", lambda model, body, residual: body.unembedding(body.final_norm(residual)))


def wrong_entropies(patch):
    honest = AttentionInstrument.head_statistics
    patch.setattr(AttentionInstrument, "head_statistics", lambda self: _changed(honest(self), entropy=1.001))


def unknown_entropies(patch):
    honest = AttentionInstrument.head_statistics
    patch.setattr(AttentionInstrument, "head_statistics", lambda self: _changed(honest(self), entropy=math.nan))


def wrong_spread(patch):
    honest = AttentionInstrument.head_statistics
    patch.setattr(
        AttentionInstrument, "head_statistics", lambda self: (m := honest(self))._replace(layers=m.layers * 1.01)
    )


def top_p_before_temperature(patch):
    honest = written.apply
    order = ("top_p", *(stage for stage in Knobs().order if stage != "top_p"))
    patch.setattr(written, "apply", lambda knobs, row, past: honest(replace(knobs, order=order), row, past))


def _changed(measures, entropy):
    return measures._replace(entropy=measures.entropy * entropy)


def forgotten_sinks(patch):
    honest = AttentionLayer.weights

    def weights(self, positions):
        sinks, self.sinks = self.sinks, None
        try:
            return honest(self, positions)
        finally:
            self.sinks = sinks

    patch.setattr(AttentionLayer, "weights", weights)


def forgotten_windows(patch):
    patch.setattr(AttentionLayer, "first_visible", lambda self, position: 0)


def wrong_scale(patch):
    honest = AttentionLayer._scores

    def scores(self, *args):
        self.scaling *= 1.01
        return honest(self, *args)

    patch.setattr(AttentionLayer, "_scores", scores)


def crop_that_does_nothing(patch):
    patch.setattr(PreallocatedLayer, "first", lambda self, n: copy.copy(self))


def crop_that_takes_one_more(patch):
    honest = PreallocatedLayer.first
    patch.setattr(PreallocatedLayer, "first", lambda self, n: honest(self, n - 1))


def twice_the_strength(patch):
    honest = steering.offsets
    patch.setattr(steering, "offsets", lambda *given: {block: 2 * push for block, push in honest(*given).items()})


def the_block_below(patch):
    honest = steering.offsets
    patch.setattr(steering, "offsets", lambda *given: {block - 1: push for block, push in honest(*given).items()})


def no_push(patch):
    patch.setattr(Steering, "set", lambda self, offsets: None)


def push_for_every_row(patch):
    honest = Steering.set
    patch.setattr(Steering, "set", lambda self, *rows: honest(self, rows[-1]))


def rows_mixed_up(patch):
    patch.setattr(steering, "forward", lambda *given: forward.forward(*given).flip(0))


def a_mask_that_hides_nothing(patch):
    patch.setattr(instruments, "unsupported_reason", lambda captured: "")
    honest = AttentionInstrument.visible_columns
    everything = lambda self, position, n: {i: m | True for i, m in honest(self, position, n).items()}  # noqa: E731
    patch.setattr(AttentionInstrument, "visible_columns", everything)


def keys_in_the_wrong_place(patch):
    patch.setattr(instruments, "unsupported_reason", lambda captured: "")
    honest = captured._Columns.update
    patch.setattr(captured._Columns, "update", lambda self, *new: honest(shifted(self), *new))


def shifted(columns):
    columns.position = columns.position * 0 + 1
    return columns


def push_that_stays(patch):
    patch.setattr(Steering, "clear", lambda self: self._hooks.clear())


def entropy_in_bits(patch):
    patch.setattr(logits, "surprisal_moments", _in_bits)


def steps_in_bits(patch):
    patch.setattr(step_tensors, "surprisal_moments", _in_bits)


def _in_bits(logp):
    mean = torch.special.entr(logp.exp()).sum(-1) / math.log(2)
    return mean, mean


def draws_of_their_own(patch):
    patch.setattr(written, "draw", lambda scores, seed, position: scores.softmax(-1).multinomial(1)[0])


def text_of_its_own(patch):
    patch.setattr(choose, "draw", lambda scores, seed, position: (scores + torch.rand_like(scores) * 9).argmax())


FAULTS = [
    (without_the_norm, "llama", logits.last_lens_row, {"last lens row"}),
    (without_the_cap, "gemma2", logits.last_lens_row, {"last lens row"}),
    (wrong_entropies, "qwen3", attention.attention, {"head entropies"}),
    (unknown_entropies, "hybrid", attention.attention, {"head entropies"}),
    (
        forgotten_sinks,
        "gpt_oss",
        attention.attention,
        {"attention row sums", "attention rows", "attention elsewhere"},
    ),
    (forgotten_windows, "gemma3", attention.attention, {"attention rows", "attention elsewhere"}),
    (wrong_spread, "gemma2", attention.attention, {"head measures"}),
    (
        wrong_scale,
        "llama",
        attention.attention,
        {"attention rows", "attention elsewhere", "head entropies", "head measures"},
    ),
    (wrong_scale, "mixtral", logits.decode_equals_prefill, {"decode equals prefill"}),
    (crop_that_does_nothing, "mistral", logits.revisited_step, {"revisited step"}),
    (crop_that_takes_one_more, "gpt2", logits.revisited_step, {"revisited step"}),
    (twice_the_strength, "gpt2", steering.steering, {"steered block"}),
    (the_block_below, "llama", steering.steering, {"steered block", "blocks below"}),
    (no_push, "gemma3", steering.steering, {"steered block", "blocks above"}),
    (push_that_stays, "qwen3", steering.steering, {"steering taken away"}),
    (push_for_every_row, "gemma3", steering.rows, {"steered row"}),
    (rows_mixed_up, "llama", steering.rows, {"row of two", "steered row"}),
    (a_mask_that_hides_nothing, "llama", logits.captured_step, {"captured step"}),
    (keys_in_the_wrong_place, "mistral", logits.captured_step, {"captured step"}),
    (entropy_in_bits, "llama", logits.precision, {"entropy formula"}),
    (steps_in_bits, "llama", written.written_steps, {"written steps"}),
    (top_p_before_temperature, "llama", written.written_steps, {"sampling chain"}),
    (draws_of_their_own, "llama", written.written_steps, {"repeated draws"}),
    (text_of_its_own, "llama", written.written_steps, {"repeated draws"}),
]


@pytest.mark.parametrize(
    ("fault", "name", "examined", "names"), FAULTS, ids=lambda part: getattr(part, "__name__", "")
)
def test_a_fault_is_seen_by_the_check_that_is_there_for_it(fault, name, examined, names, monkeypatch):
    loaded = small.loaded(name)
    assert failing(examined, loaded) == set()
    torch.manual_seed(0)
    fault(monkeypatch)
    assert failing(examined, loaded) == names


def test_whatever_a_probe_leaves_behind_is_named():
    model = small.loaded().model
    before = doctor.condition(model)
    assert doctor.left_as_found(before, doctor.condition(model)).verdict == report.PASS
    model.get_decoder().layers[2].mlp.train()
    model.lm_head.register_forward_hook(lambda *_: None)
    model.set_attn_implementation("eager")
    check = doctor.left_as_found(before, doctor.condition(model))
    assert check.verdict == report.FAIL and check.worst == 3
    assert all(part in check.compared for part in ("attention", "hooks", "training"))


# --- Smaller dtypes, other machines, other models ----------------------------------------------------------------


@pytest.fixture
def halved():
    loaded = small.loaded()
    return with_parts(loaded, model=loaded.model.bfloat16())


def test_in_bfloat16_it_is_told_how_far_the_entropy_is_off(halved, monkeypatch):
    found = doctor.doctor(halved, lambda progress: None)
    (check,) = [check for check in found.checks if check.name == report.IN_DTYPE]
    assert found.passed and 1e-5 < check.worst < check.bound
    assert next(halved.model.parameters()).dtype is torch.bfloat16
    monkeypatch.setattr(logits, "free_bytes", lambda device: 0)
    with torch.inference_mode():
        _, skipped = logits.precision(halved, ids_of(halved))
    assert skipped.verdict == report.SKIPPED and "GiB" in skipped.skipped


def test_equal_means_to_the_bit_only_where_a_model_repeats_itself(monkeypatch):
    loaded = small.loaded()
    assert compare.same_again(loaded, ids_of(loaded), 1.0) == 0.0
    honest = compare.forward_logits
    monkeypatch.setattr(compare, "forward_logits", lambda *given: honest(*given) + torch.rand(()) * 1e-6)
    assert 0 < compare.same_again(loaded, ids_of(loaded), 1.0) < 1e-3


def test_a_model_that_keeps_its_keys_compressed_has_entropies_and_no_rows():
    experts = dict(n_routed_experts=4, num_experts_per_tok=2, n_group=1, topk_group=1, moe_intermediate_size=16)
    latent = dict(q_lora_rank=8, kv_lora_rank=8, qk_rope_head_dim=4, qk_nope_head_dim=4, v_head_dim=8, head_dim=4)
    model = tiny.built(DeepseekV3Config(**tiny.SHAPE | experts | latent | dict(num_key_value_heads=4)))
    loaded = with_parts(small.loaded(), model=model, architecture=architecture_of(model))
    with torch.inference_mode():
        checks = {check.name: check for check in attention.attention(loaded, ids_of(loaded))}
    assert checks["head entropies"].verdict == report.PASS
    assert "compressed" in checks["attention rows"].skipped and "compressed" in checks["attention row sums"].skipped


BLIND = {
    "head entropies", "head measures", "attention row sums", "attention rows", "attention elsewhere",
    "probe attention", "probe attention-rollout", "probe attention-score", "probe flow", "probe head-patterns",
}  # fmt: skip


def test_a_model_without_attention_rows_is_examined_all_the_same():
    loaded = small.loaded()
    blind = with_parts(loaded, architecture=with_parts(loaded.architecture, attention_modules=(None,) * 4))
    found = doctor.doctor(blind, lambda progress: None)
    skipped = {check.name: check for check in found.checks if check.verdict == report.SKIPPED}
    assert skipped.keys() >= BLIND | {"captured step"} and found.passed
    assert {skipped[name].group for name in skipped.keys() - BLIND - {"captured step"}} == {"heads"}
    views = {name for name in BLIND if name.startswith("probe ")} | {"head grid", "attention rows"}
    assert {cost.view for cost in found.costs if cost.skipped} == views


# --- Costs -------------------------------------------------------------------------------------------------------


def test_what_is_kept_per_token_is_what_can_be_counted_by_hand():
    loaded = small.loaded()
    kept = {cost.view: cost.kept for cost in doctor.doctor(loaded, lambda progress: None).costs}
    n_layers, n_heads, n_kv_heads, d_head, of_float = 4, 4, 2, 8, 4
    assert kept[costs.PLAIN] == 2 * n_layers * n_kv_heads * d_head * of_float
    assert kept["head grid"] == n_layers * n_heads * d_head * of_float
    assert kept["residual stream"] is None and kept["step record"] > 100


# --- The command -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "code"), [(lambda patch: None, 0), (without_the_norm, 1)])
def test_the_command_prints_the_report_keeps_it_and_its_exit_code_tells(fault, code, tmp_path, monkeypatch, capsys):
    folder = small.saved(tmp_path / "tiny")
    monkeypatch.setattr(paths, "state", lambda: tmp_path / "state")
    monkeypatch.setattr(sys, "argv", ["tui-entropy", "doctor", "--model", str(folder), "--device", "cpu", "--json"])
    fault(monkeypatch)
    with pytest.raises(SystemExit) as left:
        main()
    out, err = capsys.readouterr()
    assert left.value.code == code
    assert json.loads(out)["passed"] is (code == 0) and "checking" in err
    assert len(list((tmp_path / "state" / "doctor").iterdir())) == 1
