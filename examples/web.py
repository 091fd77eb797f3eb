"""The web behind an interface: allowed origins, a key that no plug-in knows, and a plug-in that may only look."""

# mypy: disable-error-code="empty-body"
import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from mukernel import Interface, Kernel, PermissionDenied, Plugin
from mukernel.drivers.http import Http, HttpDriver, OriginRefused, opened


class Shop(BaseHTTPRequestHandler):
    """A service outside, that asks for a key."""

    def do_GET(self) -> None:
        known = self.headers.get("Authorization") == "Bearer of-the-operator"
        self.send_response(200 if known else 401)
        self.end_headers()
        self.wfile.write(b'{"tea": 3}' if self.path == "/prices" else b"x" * 300_000)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Prices(Interface, version="1.0"):
    async def look(self, url: str) -> str: ...
    async def change(self, url: str) -> str: ...


class ThirdParty(Plugin, Prices):
    def __init__(self, http: Http) -> None:
        self.http = http

    async def look(self, url: str) -> str:
        response = await self.http.get(url)
        return f"{response.status} {response.json()}"

    async def change(self, url: str) -> str:
        try:
            return str((await self.http.request("POST", url)).status)
        except PermissionDenied as error:
            return f"denied, {error}"


async def main(origin: str) -> None:
    async with Kernel() as kernel:
        config = {"origins": [origin], "headers": {origin: {"Authorization": "Bearer of-the-operator"}}}
        await kernel.load(HttpDriver, name="http", placement="process", config=config)
        await kernel.load(ThirdParty, name="prices", placement="process", grants=[f"Http:read:{origin}"])
        prices, http = kernel.get(Prices), kernel.get(Http)
        print("prices:", await prices.look(f"{origin}/prices"))
        print("changing them:", await prices.change(f"{origin}/prices"))
        try:
            await http.get("http://169.254.169.254/latest/meta-data")
        except OriginRefused as error:
            print("refused:", error)
        size = 0
        async with opened(http, "GET", f"{origin}/picture") as response:
            async for piece in response:
                size += len(piece)
        print("streamed:", size, "bytes")


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", 0), Shop) as shop:
        threading.Thread(target=shop.serve_forever, daemon=True).start()
        asyncio.run(main(f"http://127.0.0.1:{shop.server_port}"))
        shop.shutdown()
