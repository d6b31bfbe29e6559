"""Recipes of tiny networks on digits."""

from merged_diffusion.experts.card import Card

MEANING = {
    "vdm": {"predicts": "eps", "time": "gamma", "input": "vp"},
    "edm": {"predicts": "x0", "time": "log_edm_sigma_over_4", "input": "edm"},
}


def recipe(tmp_path, kind="vdm", name="recipe", dropout=0.1, **training):
    network = {"type": "mlp", "width": 16, "blocks": 1, "dropout": dropout}
    table = {
        "data": "digits",
        "seed": 3,
        "steps": 30,
        "batch": 16,
        "learning_rate": 2e-3,
        "ema": 0.9,
    } | training
    card = Card(
        name=f"toy-{kind}", kind=kind, **MEANING[kind], pixels="centred", levels=17, image_shape=(1, 8, 8),
        gamma_range=(-7.0, 5.0), network=network | ({"periods": [1]} if kind == "vdm" else {}),
        training={k: v for k, v in table.items() if v is not None},
    )  # fmt: skip
    path = tmp_path / f"{name}.toml"
    path.write_text(card.toml())
    return path
