"""A QR code as SVG for a page: drawn here, so that its text, a secret, goes to nobody else."""

import io

import segno
from markupsafe import Markup


def qr_svg(text: str) -> Markup:
    """Markup of the code, black on white with the quiet zone that scanners want, without a size of its own."""
    out = io.BytesIO()
    segno.make(text, micro=False).save(
        out, kind="svg", xmldecl=False, svgns=False, omitsize=True, border=4, light="#fff"
    )
    return Markup(out.getvalue().decode("utf-8"))  # noqa: S704 - shapes alone; the text is nowhere in it
