"""`presets` and `models`: what can be named on the command line."""

from __future__ import annotations

from ..config import BUILT_IN, PRESET_SUMMARIES, PRESETS, RunConfig, setting_names
from . import show


def list_settings(json: bool) -> None:
    """Every setting with its default."""
    defaults = RunConfig.build("clip").flat()
    rows = [(name, defaults[name], text) for name, text in setting_names().items()]
    if json:
        show.print_json([{"setting": name, "default": value, "description": text} for name, value, text in rows])
    else:
        show.table("Settings (--set KEY=VALUE)", ("setting", "default", "what it is"), rows, numbers_from=9)


def list_presets(json: bool) -> None:
    if json:
        show.print_json({name: RunConfig.build(name).to_dict() for name in PRESETS})
    else:
        show.table("Presets", ("preset", "what it is"), PRESET_SUMMARIES.items(), numbers_from=9)


def list_models(find: str) -> None:
    """The names that --model takes, with the tags of their weights."""
    import open_clip

    names = [(name, "(built in)") for name in BUILT_IN]
    for name in open_clip.list_models():
        if find.lower() in name.lower():
            names.append((name, ", ".join(open_clip.list_pretrained_tags_by_model(name))))
    for name, tags in names:
        show.out.print(f"{name}  {tags}".rstrip(), markup=False)
