"""Threads: code without an event loop. The kernel has a thread of its own, requests have theirs."""

# mypy: disable-error-code="empty-body"
import threading
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from mukernel import Interface, KernelThread, Plugin


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
    with KernelThread() as kernel:
        kernel.load(Prices, name="catalog", placement="process")
        Shop.catalog = catalog = kernel.get(Catalog)  # for any thread
        catalog.put("tea", 123)

        server = ThreadingHTTPServer(("127.0.0.1", 0), Shop)
        web = threading.Thread(target=server.serve_forever, daemon=True)
        web.start()
        port = server.server_address[1]
        with ThreadPoolExecutor(8) as customers:
            before = set(customers.map(lambda _: ask(port, "tea"), range(40)))
            requests = [customers.submit(ask, port, "tea") for _ in range(40)]
            kernel.swap("catalog", Rounded)
            during = {request.result() for request in requests}
            after = set(customers.map(lambda _: ask(port, "tea"), range(40)))
        print(f"prices before {before}, during the swap as before or after: {during <= {120, 123}}, after {after}")

        server.shutdown()
        server.server_close()
        web.join()


if __name__ == "__main__":
    main()
