"""Threads: code without an event loop, as in Flask or Django. The kernel's loop has a thread, requests have theirs."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from mukernel import Interface, Kernel, Plugin


class Catalog(Interface):
    """`def` methods: they block their caller, wherever the plug-in runs, so that any code can call them."""

    def price(self, item: str) -> int: ...
    def put(self, item: str, price: int) -> None: ...


class Prices(Plugin, Catalog):
    """Its methods run one at a time, as in an actor: no lock is needed, though many threads call."""

    def __init__(self) -> None:
        self.prices: dict[str, int] = {}

    def price(self, item: str) -> int:
        return self.prices[item]

    def put(self, item: str, price: int) -> None:
        self.prices[item] = price

    def save(self) -> dict[str, int]:
        return self.prices

    def restore(self, state: dict[str, int]) -> None:
        self.prices = state


class Rounded(Prices):
    def price(self, item: str) -> int:
        return round(self.prices[item], -1)


class Shop(BaseHTTPRequestHandler):
    """A handler as any synchronous framework would run it: in a thread of its own."""

    catalog: Catalog

    def do_GET(self) -> None:
        body = str(self.catalog.price(self.path.strip("/"))).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Requests are not news here."""


def ask(port: int, item: str) -> int:
    connection = HTTPConnection("127.0.0.1", port)
    connection.request("GET", f"/{item}")
    answer = int(connection.getresponse().read())
    connection.close()
    return answer


def main() -> None:
    loop = asyncio.new_event_loop()
    kernel_thread = threading.Thread(target=loop.run_forever)
    kernel_thread.start()
    kernel = Kernel()
    asyncio.run_coroutine_threadsafe(kernel.__aenter__(), loop).result()
    asyncio.run_coroutine_threadsafe(kernel.load(Prices, name="catalog", placement="process"), loop).result()
    Shop.catalog = catalog = asyncio.run_coroutine_threadsafe(proxy(kernel), loop).result()
    catalog.put("tea", 123)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Shop)
    web_thread = threading.Thread(target=server.serve_forever)
    web_thread.start()
    port = server.server_address[1]
    with ThreadPoolExecutor(8) as customers:
        before = set(customers.map(lambda _: ask(port, "tea"), range(40)))
        requests = [customers.submit(ask, port, "tea") for _ in range(40)]
        asyncio.run_coroutine_threadsafe(kernel.swap("catalog", Rounded), loop).result()
        during = {request.result() for request in requests}
        after = set(customers.map(lambda _: ask(port, "tea"), range(40)))
    print(f"prices before {before}, during the swap as before or after: {during <= {120, 123}}, after {after}")

    server.shutdown()
    server.server_close()
    web_thread.join()
    asyncio.run_coroutine_threadsafe(kernel.close(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    kernel_thread.join()
    loop.close()


async def proxy(kernel: Kernel) -> Catalog:
    """Connected on the loop that owns the kernel; used from any thread."""
    return kernel.get(Catalog)


if __name__ == "__main__":
    main()
