"""The page, made with gradio, and the server that shows it. The one door to gradio."""

import os
import socket
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from PIL import Image

from p2p_keras.config import task_name
from p2p_keras.demo import translate
from p2p_keras.demo.examples import COUNT, Example
from p2p_keras.demo.listen import address, for_this_machine, is_loopback, nothing_else, sealed, with_small_requests
from p2p_keras.errors import UserError
from p2p_keras.export.open import Model
from p2p_keras.images import codec
from p2p_keras.images.kinds import Kind
from p2p_keras.images.sheets import class_colours
from p2p_keras.system.limits import MAX_PIXELS, MAX_UPLOAD_BYTES

# Before gradio is loaded: it tells nobody that it is used, and asks no other host for anything.
os.environ.update(GRADIO_ANALYTICS_ENABLED="False", HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")
try:
    import fastapi
    import gradio as gr
    import safehttpx
    import uvicorn
    from gradio.processing_utils import save_bytes_to_cache
except ImportError as error:
    raise UserError(
        f"The page is made with gradio, and it is not installed ({error.name} is missing). Install it: "
        f"{sys.executable} -m pip install 'gradio>=6.31,<7'"
    ) from error

_COLOURS = ["#ffffff", "#000000", "#e6194b", "#3cb44b", "#4363d8", "#ffe119", "#f58231", "#911eb4", "#46f0f0"]
_KEEP_SECS, _CLEAN_SECS = 3600, 600  # files of visitors, and how often old ones are removed
_CSS = """
.swatch {display: inline-block; width: 1em; height: 1em; border: 1px solid #888; vertical-align: -0.15em}
#examples, #examples .grid-wrap {min-height: 0; overflow: hidden}
"""
_PICTURE, _PAINTING = 0, 1  # the tabs of an input


def make_page(model: Model, title: str, examples: Sequence[Example], tile: bool | None = None) -> gr.Blocks:
    """Lays the page out by what the model takes.

    Args:
        model: From `open_model`.
        title: What is said of it, Markdown.
        examples: Pictures to begin with.
        tile: How the choice of tiles is set at first. None: as the model was trained.
    """
    contract = model.contract
    pictures, canvases, chosen = [], [], []
    with gr.Blocks(title="p2p-demo", analytics_enabled=False, delete_cache=(_CLEAN_SECS, _KEEP_SECS)) as page:
        gr.Markdown(title)
        with gr.Row():
            with gr.Column():
                for number, (name, kind) in enumerate(zip(contract.input_names, contract.input_kinds, strict=True)):
                    label = "picture" if name == "image" else name
                    picture, canvas, tab = _input(label, kind, model, [example[number] for example in examples])
                    pictures.append(picture)
                    canvases.append(canvas)
                    chosen.append(tab)
                with gr.Row():
                    tiles = gr.Checkbox(
                        contract.native if tile is None else tile,
                        label="Tiles",
                        info="in the picture's own resolution",
                        elem_id="tiles",
                    )
                    noisy = gr.Checkbox(False, label="Noise", info="draws dropout noise", visible=model.noise)
                    seed = gr.Number(1, label="Seed", precision=0, visible=model.noise)
                button = gr.Button("Translate", variant="primary", elem_id="translate")
            with gr.Column():
                slider = gr.ImageSlider(
                    label="before | after",
                    interactive=False,
                    format="png",
                    max_height=600,
                    elem_id="result",
                    buttons=["fullscreen"],
                )
                message = gr.Markdown(elem_id="message")
                download = gr.DownloadButton("Download the generated picture", interactive=False, elem_id="download")
        painted = [canvas for canvas in canvases if canvas is not None]

        def run(tiles: bool, noisy: bool, seed: float | None, *values: Any, painting: bool = True) -> list:
            """What the page shows next. Values are the pictures, the tabs chosen, and the canvases."""
            count = len(pictures)
            files, tabs, paintings = values[:count], values[count : 2 * count], iter(values[2 * count :])
            inputs: list[Path | np.ndarray | None] = []
            try:
                if not -(2**31) <= (seed or 0) < 2**31:
                    raise UserError(f"A seed is a whole number of 32 bits, up to {2**31 - 1}. Received: {seed}")
                for file, tab, canvas in zip(files, tabs, canvases, strict=True):
                    drawn = next(paintings) if canvas is not None and painting else None
                    if painting and canvas is not None and tab == _PAINTING:
                        inputs.append(translate.read_painting(Path(drawn)) if drawn else None)
                    else:
                        inputs.append(Path(file) if file else None)
                result = translate.translate(model, inputs, int(seed or 0) if noisy else None, tiles)
            except UserError as problem:
                return [None, f"**{problem}**", gr.DownloadButton(interactive=False)]
            path = save_bytes_to_cache(result.file, "generated.png", slider.GRADIO_CACHE)
            said = f"{result.size.width} x {result.size.height} pixels"
            return [(result.before, result.after), said, gr.DownloadButton(value=path, interactive=True)]

        shared = {"concurrency_id": "model", "concurrency_limit": 1, "api_visibility": "private"}
        outputs = [slider, message, download]
        button.click(run, [tiles, noisy, seed, *pictures, *chosen, *painted], outputs, **shared)
        if len(pictures) == 1:  # a picture that is dropped is translated at once
            pictures[0].change(
                lambda *values: run(*values, painting=False) if values[3] else [gr.skip()] * 3,
                [tiles, noisy, seed, *pictures, *chosen],
                outputs,
                **shared,
            )
        if examples:
            _offer(model, examples, pictures, canvases)
    page.queue(default_concurrency_limit=4, api_open=False)  # or whoever leaves out the queue translates many at once
    return page


def _input(
    label: str, kind: Kind, model: Model, examples: Sequence[np.ndarray]
) -> tuple[gr.Image, gr.ImageEditor | None, gr.State]:
    """A place for a picture and, where the kind can be painted, a canvas on a second tab; and which tab is open."""
    chosen, size = gr.State(_PICTURE), model.contract.image_size
    if not translate.paintable(kind):
        return _picture(label, kind), None, chosen
    with gr.Tabs():
        with gr.Tab("Picture") as first:
            picture = _picture(label, kind)
        with gr.Tab("Paint") as second:
            if kind.labels:
                colours = translate.as_hex(class_colours()[: kind.channels])
                swatches = (
                    f'<span class="swatch" style="background: {colour}"></span> {number}'
                    for number, colour in enumerate(colours)
                )
                gr.HTML("Classes: " + " &nbsp; ".join(swatches))
            else:
                colours = translate.as_hex(translate.frequent_colours(examples)) or _COLOURS
            height, width = translate.canvas_size(size)
            canvas = gr.ImageEditor(
                translate.empty_canvas(kind, size),
                label=label,
                format="png",
                sources=() if kind.labels else ("upload", "clipboard"),
                transforms=(),
                layers=False,
                canvas_size=(width, height),
                fixed_canvas=True,
                height=min(height, 640) + 130,  # the tools lie within it
                buttons=["fullscreen"],
                brush=gr.Brush(
                    default_size=max(width, height) // 24,
                    colors=colours,
                    default_color=colours[min(2 if kind.labels else 1, len(colours) - 1)],  # class 1 is white
                    color_mode="fixed" if kind.labels else "defaults",
                ),
                elem_id=f"canvas-{label}",
            )
            # What is seen, as a file. gradio itself decodes each of the layers too, however many are sent.
            canvas.preprocess = lambda payload: payload and _uploaded(payload.composite, canvas)
    for tab, number in ((first, _PICTURE), (second, _PAINTING)):
        tab.select(partial(int, number), None, chosen, queue=False, api_visibility="private")
    return picture, canvas, chosen


def _picture(label: str, kind: Kind) -> gr.Image:
    picture = gr.Image(
        label=label,
        type="filepath",
        image_mode=None,
        sources=["upload", "clipboard"] if kind.labels else ["upload", "webcam", "clipboard"],
        height=320,
        buttons=["fullscreen"],
        elem_id=f"picture-{label}",
    )
    # The file as it was sent. gradio's own reading raises where a file is no image, and we want to say so in words.
    picture.preprocess = lambda payload: _uploaded(payload, picture)
    return picture


def _uploaded(file: Any, component: gr.components.Component) -> str | None:
    """The path of a file that this page keeps for a visitor. gradio looks where it is only if the visitor calls it one.

    Raises:
        gr.Error: It is another file of this machine.
    """
    if not (file and file.path):
        return None
    try:
        kept = Path(file.path).resolve().is_relative_to(Path(component.GRADIO_CACHE).resolve())
    except (OSError, ValueError, RuntimeError):  # names that no file can have, and links in a circle
        kept = False
    if not kept:
        raise gr.Error("This file cannot be used: it was not uploaded by a user.", print_exception=False)
    return file.path


def _offer(
    model: Model, examples: Sequence[Example], pictures: Sequence[gr.Image], canvases: Sequence[gr.ImageEditor | None]
) -> None:
    """A row of examples. The one that is clicked is put into every input, to be translated or painted on."""
    kinds, size = model.contract.input_kinds, model.contract.image_size
    gr.Markdown("**Examples** to click on", elem_id="examples-title")
    gallery = gr.Gallery(
        [translate.to_look_at(example[0], kinds[0]) for example in examples],
        label="Examples",
        show_label=False,  # it would lie over the first one
        columns=COUNT,
        height="auto",
        format="png",
        object_fit="contain",
        allow_preview=False,
        interactive=False,
        buttons=[],
        elem_id="examples",
    )

    def choose(event: gr.SelectData) -> list:
        if not (isinstance(event.index, int) and 0 <= event.index < len(examples)):
            raise gr.Error("There is no such example.", print_exception=False)
        example = examples[event.index]
        files, drawn = [], []
        for levels, kind, picture, canvas in zip(example, kinds, pictures, canvases, strict=True):
            content = codec.encode(levels, class_colours() if kind.labels else None)
            files.append(save_bytes_to_cache(content, f"example{event.index}.png", picture.GRADIO_CACHE))
            if canvas is not None:
                background = translate.to_canvas(levels, kind, size)
                drawn.append({"background": background, "layers": [], "composite": background})
        return [*files, *drawn]

    outputs = [*pictures, *(canvas for canvas in canvases if canvas is not None)]
    gallery.select(choose, None, outputs, api_visibility="private")


def describe(model: Model, name: str) -> str:
    """What the page says first, Markdown: what the model makes of what."""
    contract = model.contract
    takes = " and ".join(map(_in_words, contract.input_kinds))
    scale = "in its own resolution" if contract.native else f"seen at {contract.image_size}"
    plain = name.replace("`", "")  # which would end the code
    made = _in_words(contract.target_kind)
    return f"## p2p-demo\n`{plain}` ({task_name(model.config)}) makes {made} of {takes}, {scale}."


def _in_words(kind: Kind) -> str:
    if kind.labels:
        return f"a map of {kind.channels} classes"
    colours = {1: "grey", 2: "grey with alpha", 3: "RGB", 4: "RGBA"}[kind.channels]
    return f"a picture ({colours}{', 16 bits' if kind.bits == 16 else ''})"


def serve(page: gr.Blocks, listening: socket.socket, report: Callable[[str], None] = print) -> None:
    """Shows a page until Ctrl-C, which is raised as KeyboardInterrupt once the server has ended.

    Args:
        page: From `make_page`.
        listening: From `listen.listen`.
        report: Called with the address.
    """
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # whose double Pillow refuses, wherever gradio opens something itself
    safehttpx.async_validate_url = _ask_nobody  # through which gradio goes for every URL that a visitor names
    app = gr.mount_gradio_app(
        fastapi.FastAPI(openapi_url=None),
        page,
        path="/",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        max_file_size=MAX_UPLOAD_BYTES,
        css=_CSS,
    )
    page.has_launched = True  # else gradio takes the paths that visitors name for its own, and reads any file for them
    report(f"{address(listening)}  (Ctrl-C ends it)")
    app = sealed(nothing_else(with_small_requests(app)))
    app = for_this_machine(app) if is_loopback(listening) else app
    settings = uvicorn.Config(app, log_level="critical", access_log=False, timeout_graceful_shutdown=1)
    uvicorn.Server(settings).run([listening])


async def _ask_nobody(host: str) -> NoReturn:
    """In the place of gradio's look-up of a host, which by itself asks a public server for names."""
    raise ValueError(f"This page asks no other host for anything. Received: {host}")
