"""The pages at `/` and `/docs`: files that need nothing else, from here or from elsewhere."""

from functools import partial
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

router = APIRouter(include_in_schema=False)
# By path; the documentation is made in the browser, of /openapi.json. Swagger UI would need styles within the page.
FILES = {
    "/": "page.html",
    "/page.js": "page.js",
    "/page.css": "page.css",
    "/docs": "docs.html",
    "/docs.js": "docs.js",
}
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",
}


async def _send(file: Path) -> FileResponse:
    return FileResponse(file, media_type=f"{_TYPES[file.suffix]}; charset=utf-8", headers=_HEADERS)


for _path, _name in FILES.items():
    router.add_api_route(_path, partial(_send, Path(__file__).parent / _name))
