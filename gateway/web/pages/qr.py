"""A QR code as SVG for a page: drawn here, so that its text, a secret, goes to nobody else."""

import io

import segno


def qr_svg(text: str) -> str:
    """Markup of the code, black on white with the quiet zone that scanners want, without a size of its own."""
    out = io.BytesIO()
    segno.make(text, micro=False).save(
        out, kind="svg", xmldecl=False, svgns=False, omitsize=True, border=4, light="#fff"
    )
    return out.getvalue().decode("utf-8")
