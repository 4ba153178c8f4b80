"""The text tower's layers are frozen or trained as said; the user tower reads a history as a set."""

# T texts, L tokens, D width; B requests, H history items, C candidates
from math import exp, log

import numpy as np
import pytest
import torch

from encoders.loading import load_backbone
from encoders.tokenize import tokenise
from encoders.towers import TextTower, UserTower


@pytest.fixture
def backbone(small_encoder):
    return load_backbone(str(small_encoder))


@pytest.fixture
def batch(backbone):
    texts = tokenise(["red mug", "blue mug kitchen", ""], backbone.tokenizer, max_tokens=16, pad_id=backbone.pad_id)
    return tuple(torch.from_numpy(part) for part in texts.padded(np.arange(3), 3))


@pytest.mark.parametrize(("asked", "trained"), [(0, 0), (1, 1), (2, 2), (3, 3), (9, 3)])
def test_layer_by_layer_the_lower_ones_stay_frozen_and_the_upper_ones_train(backbone, asked, trained):
    layers = list(backbone.model.encoder.layer)
    tower = TextTower(backbone, asked).train()
    assert [id(layer) for layer in [*tower.lower, *tower.upper]] == [id(layer) for layer in layers]
    frozen, live = [tower.embeddings, *layers[: 3 - trained]], layers[3 - trained :]
    for module in (part for layer in frozen for part in layer.modules()):
        assert not module.training
    for module in (part for layer in live for part in layer.modules()):
        assert module.training
    assert not any(parameter.requires_grad for layer in frozen for parameter in layer.parameters())
    assert all(parameter.requires_grad for layer in [*live, tower.projection] for parameter in layer.parameters())
    assert not any(module.training for module in tower.eval().modules())


def test_dropout_is_really_on_in_upper_layers_and_off_in_lower_ones(backbone, batch):
    ids, mask = batch
    tower = TextTower(backbone, 2).train()
    assert torch.equal(tower.read(ids, mask), tower.read(ids, mask))
    hidden = tower.read(ids, mask)
    assert not torch.equal(tower.pool(hidden, mask), tower.pool(hidden, mask))
    for layer in tower.upper:
        assert not torch.equal(tower._through([layer], hidden, mask), tower._through([layer], hidden, mask))
    tower.eval()
    assert torch.equal(tower.pool(hidden, mask), tower.pool(hidden, mask))


def test_a_gradient_reaches_upper_layers_and_projection_only(backbone, batch):
    ids, mask = batch
    tower = TextTower(backbone, 1).train()
    hidden = tower.read(ids, mask)
    assert not hidden.requires_grad
    tower.project(tower.pool(hidden, mask))[:, 0].sum().backward()
    for name, parameter in tower.named_parameters():
        assert (parameter.grad is not None) == name.startswith(("upper.", "projection.")), name


@pytest.mark.parametrize("train_layers", [0, 1, 3])
def test_split_layers_make_what_the_whole_model_makes(backbone, batch, train_layers):
    ids, mask = batch
    with torch.inference_mode():
        whole = backbone.model(input_ids=ids, attention_mask=mask).last_hidden_state
        expected = torch.stack([row[keep].mean(0) for row, keep in zip(whole, mask, strict=True)])
        tower = TextTower(backbone, train_layers).eval()
        pooled = tower.pool(tower.read(ids, mask), mask)
    torch.testing.assert_close(pooled, expected, rtol=1e-5, atol=1e-5)


def test_padding_does_not_change_a_text(backbone):
    tower = TextTower(backbone, 1).eval()
    ids = torch.tensor([[2, 9, 10, 3]])
    longer = torch.cat([ids, torch.full((1, 12), backbone.pad_id)], 1)
    with torch.inference_mode():
        short = tower.pool(tower.read(ids, ids > 0), ids > 0)
        long = tower.pool(tower.read(longer, longer > 0), longer > 0)
    torch.testing.assert_close(short, long, rtol=1e-5, atol=1e-6)


def test_the_projection_starts_as_the_identity(backbone):
    tower = TextTower(backbone, 1)
    assert torch.equal(tower.projection.weight, torch.eye(32))
    pooled = torch.randn(5, 32)
    torch.testing.assert_close(tower.project(pooled), pooled / pooled.norm(dim=1, keepdim=True))


def test_bfloat16_is_kept_between_the_halves_and_left_before_pooling(backbone, batch):
    ids, mask = batch
    tower = TextTower(backbone, 1).eval()
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = tower.read(ids, mask)
        pooled = tower.pool(hidden, mask)
        assert (hidden.dtype, pooled.dtype) == (torch.bfloat16, torch.float32)
        assert tower.project(pooled).dtype == torch.float32


def user_tower(seed: int = 0, heads: int = 4) -> UserTower:
    tower = UserTower(8, heads=heads)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in (tower.gain_K, tower.mixture_K):
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return tower


def history(requests: int, items: int, candidates: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    similar_BHC = torch.rand(requests, items, candidates, generator=generator) * 2 - 1
    age_BH = torch.randint(1, 60, (requests, items), generator=generator).float()
    gain_BH = torch.randint(1, 4, (requests, items), generator=generator).float()
    mask_BHC = torch.rand(requests, items, candidates, generator=generator) < 0.7
    mask_BHC[:, 0] = True
    return similar_BHC, age_BH, gain_BH, mask_BHC


def test_one_flat_head_by_hand():
    tower = UserTower(2, heads=1)  # sharpness 0, ageing 0.3, scale e^3
    similar_BHC = torch.tensor([[[0.8], [0.2]]])
    match = tower(similar_BHC, torch.tensor([[1.0, 4.0]]), torch.ones(1, 2), torch.ones(1, 2, 1).bool())
    old = exp(-0.3 * log(4))
    assert match.item() == pytest.approx(exp(3) * (0.8 * 1 + 0.2 * old) / (1 + old), rel=1e-5)


def test_two_heads_with_sharpness_and_gain_by_hand():
    tower = UserTower(2, heads=2)
    with torch.no_grad():
        tower.sharpness_K.copy_(torch.tensor([0.0, 5.0]))
        tower.ageing_K.zero_()
        tower.gain_K.copy_(torch.tensor([1.0, 0.0]))
        tower.mixture_K.copy_(torch.tensor([0.0, log(3)]))  # a quarter, three quarters
        tower.log_scale.zero_()
    similar_BHC = torch.tensor([[[0.6], [0.1]]])
    match = tower(similar_BHC, torch.ones(1, 2), torch.tensor([[1.0, 3.0]]), torch.ones(1, 2, 1).bool())
    by_gain = (1 * 0.6 + 3 * 0.1) / (1 + 3)
    sharp = (exp(3.0) * 0.6 + exp(0.5) * 0.1) / (exp(3.0) + exp(0.5))
    assert match.item() == pytest.approx(1 / 4 * by_gain + 3 / 4 * sharp, rel=1e-5)


def test_permuting_the_history_changes_nothing():
    tower, (similar, age, gain, mask) = user_tower(), history(6, 9, 5)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        expected = tower(similar, age, gain, mask)
        permuted = tower(similar[:, order], age[:, order], gain[:, order], mask[:, order])
    torch.testing.assert_close(permuted, expected, rtol=1e-5, atol=1e-5)


def test_padding_the_history_changes_nothing_whatever_stands_in_it():
    tower, (similar, age, gain, mask) = user_tower(), history(6, 9, 5)
    pad = (similar[:, :4] * 9, age[:, :4] * 9, gain[:, :4] * 9, torch.zeros(6, 4, 5).bool())
    with torch.inference_mode():
        expected = tower(similar, age, gain, mask)
        padded = tower(*(torch.cat(parts, 1) for parts in zip((similar, age, gain, mask), pad, strict=True)))
    torch.testing.assert_close(padded, expected, rtol=1e-5, atol=1e-5)


def test_what_is_masked_for_one_candidate_still_counts_for_the_others():
    tower = UserTower(2, heads=1)
    with torch.no_grad():
        tower.ageing_K.zero_()
        tower.log_scale.zero_()
    similar_BHC = torch.tensor([[[1.0, 0.5], [0.2, 0.1]]])
    mask_BHC = torch.tensor([[[False, True], [True, True]]])
    match = tower(similar_BHC, torch.ones(1, 2), torch.ones(1, 2), mask_BHC)
    assert match[0].tolist() == pytest.approx([0.2, (0.5 + 0.1) / 2])


def test_without_history_the_match_is_0_and_so_is_its_gradient():
    tower, (similar, age, gain, mask) = user_tower(), history(2, 4, 3)
    mask[1] = False
    similar.requires_grad_()
    match = tower(similar, age, gain, mask)
    assert match[1].tolist() == [0, 0, 0]
    match.sum().backward()
    assert similar.grad is not None
    assert similar.grad.isfinite().all()
    assert (similar.grad[1] == 0).all()
    assert all(p.grad.isfinite().all() for name, p in tower.named_parameters() if name != "wanted_D")


@pytest.mark.parametrize("items", [1, 3, 8, 24])
def test_a_match_is_bit_equal_whatever_stands_beside_it(items):
    tower, rng = user_tower(), np.random.default_rng(items)
    similar, age, gain, mask = history(40, items, 37)
    with torch.inference_mode():
        whole = tower(similar, age, gain, mask)
        for _ in range(40):
            b = torch.from_numpy(rng.permutation(40)[: rng.integers(1, 41)])
            c = torch.from_numpy(rng.permutation(37)[: rng.integers(1, 38)])
            part = tower(similar[b][:, :, c], age[b], gain[b], mask[b][:, :, c])
            assert torch.equal(part, whole[b][:, c])


def test_the_type_of_the_event_weighs_by_hand():
    """Codes 1 and 2 have a prior, 0 has none."""
    tower = UserTower(2, heads=1, event_types=2)
    with torch.no_grad():
        tower.ageing_K.zero_()
        tower.log_scale.zero_()
        tower.event_KE.copy_(torch.tensor([[0.5, -1.0]]))
    similar_BHC = torch.tensor([[[0.6], [0.1], [-0.4]]])
    one, mask = torch.ones(1, 3), torch.ones(1, 3, 1).bool()
    match = tower(similar_BHC, one, one, mask, torch.tensor([[2, 0, 1]]))
    weights = np.exp([-1.0, 0.0, 0.5])
    assert match.item() == pytest.approx((weights * [0.6, 0.1, -0.4]).sum() / weights.sum(), rel=1e-5)


def test_types_without_a_prior_change_no_bit():
    plain, told = user_tower(), UserTower(8, event_types=3)
    assert "event_KE" not in plain.state_dict()
    told.load_state_dict(plain.state_dict(), strict=False)
    similar, age, gain, mask = history(6, 9, 5)
    event_type = torch.randint(0, 4, (6, 9), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = plain(similar, age, gain, mask)
        assert torch.equal(told(similar, age, gain, mask, event_type), expected)  # 0 at the start
        assert torch.equal(plain(similar, age, gain, mask, event_type), expected)
        told.event_KE.fill_(3.0)
        assert torch.equal(told(similar, age, gain, mask, torch.zeros_like(event_type)), expected)
        assert not torch.equal(told(similar, age, gain, mask, event_type), expected)


def test_an_answer_is_on_the_scale_of_the_match():
    tower = UserTower(2, heads=1, queries=True)
    with torch.no_grad():
        tower.query_gate.fill_(0.5)
        tower.log_scale.fill_(2.0)
    assert tower.answer(torch.tensor([[0.6, -1.0, 0.0]]))[0].tolist() == pytest.approx([0.3 * exp(2), -0.5 * exp(2), 0])
    assert "query_gate" not in UserTower(2).state_dict()
