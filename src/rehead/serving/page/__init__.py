"""The page at `/`: three files that need nothing else, from here or from elsewhere."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

router = APIRouter(include_in_schema=False)
_FOLDER = Path(__file__).parent
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",
}


@router.get("/")
async def page() -> FileResponse:
    return FileResponse(_FOLDER / "page.html", media_type="text/html; charset=utf-8", headers=_HEADERS)


@router.get("/page.js")
async def script() -> FileResponse:
    return FileResponse(_FOLDER / "page.js", media_type="text/javascript; charset=utf-8", headers=_HEADERS)


@router.get("/page.css")
async def style() -> FileResponse:
    return FileResponse(_FOLDER / "page.css", media_type="text/css; charset=utf-8", headers=_HEADERS)
